#!/usr/bin/env bash
# Unpacks what pack.sh packed and tries it, on a machine with an NVIDIA GPU, Python, torch and transformers; no network is needed.
#
#   bash .gpu/run.sh [check.py's options]     in the project's root; results in $OUT, or .gpu/out
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${OUT:-$here/out}
stage=$(mktemp -d)
trap 'rm -rf -- "$stage"' EXIT
mkdir -p "$out"
tar -C "$stage" -xJf "$here/kit.tar.xz"
python3 -m pip install -q --no-index --no-deps --no-compile --target "$stage/site" "$stage"/kit/wheels/*.whl
export PYTHONPATH=$stage/site${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
python3 "$(dirname "$here")/scripts/gpu/check.py" --kit "$stage/kit" --output "$out" "$@"
