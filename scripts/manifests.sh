#!/usr/bin/env bash
# Writes the manifest of each reward plugin, what it says of itself, beside it, for `dag-reward list`, which loads none. `make build` runs this.
#
#   scripts/manifests.sh FOLDER     the folder with the programs and the plugins that were built
set -euo pipefail
cd -- "$1"
for plugin in lib*.so; do
    manifest=$plugin.json
    if [[ $manifest -nt $plugin && $manifest -nt dag-reward ]] || ! nm -D --defined-only "$plugin" | grep -q ' T dag_reward_entry$'; then continue; fi
    ./dag-reward info "./$plugin" --json >"$manifest.new"
    mv -- "$manifest.new" "$manifest"
done
