#!/usr/bin/env bash
# Makes a Python wheel that carries libdagcore.so, the reward plugins and all that they need, from what `make build` built.
#
#   scripts/wheel.sh [FOLDER]     the wheel goes to FOLDER, python/dist if none is named
#
# Needs a python3 with pip, which fetches the build backend. PYTHON names another one.
set -euo pipefail
output=$(realpath -m "${1:-$(dirname "${BASH_SOURCE[0]}")/../python/dist}")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
cp -r python/. "$work"
rm -rf "$work/dist"
scripts/install.sh --flat "$work/dagcore/lib"
"${PYTHON:-python3}" -m pip --disable-pip-version-check wheel --quiet --no-deps --wheel-dir "$output" "$work"
ls -sh "$output"/dagcore-*.whl
