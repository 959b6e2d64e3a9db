#!/usr/bin/env bash
# Checks the style of all code (swift-format, ruff, shellcheck, clang-format), and GitHub's files against their schemas.
# `make lint` runs this.
#
#   scripts/lint.sh [--repair]   --repair: also repair what the tools can repair
#
# All but swift-format come from .venv: scripts/setup.sh --lint installs them (scripts/requirements-lint.txt pins their versions).
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

swift=(Package.swift Sources Tests Plugins Benchmarks Fuzzing examples)
mapfile -t c < <(git ls-files '*.c' '*.cpp' '*.h')
mapfile -t shell < <(git ls-files '*.sh' .ci/run)
for tool in ruff shellcheck clang-format check-jsonschema; do
    if [[ ! -x .venv/bin/$tool ]]; then
        echo "lint: there is no .venv/bin/$tool; run scripts/setup.sh --lint" >&2
        exit 1
    fi
done
case ${1:-} in
--repair)
    swift format --in-place --recursive --parallel "${swift[@]}"
    .venv/bin/ruff check --quiet --fix .
    .venv/bin/clang-format -i "${c[@]}"
    ;;
"") ;;
*)
    echo "usage: scripts/lint.sh [--repair]" >&2
    exit 2
    ;;
esac

status=0
swift format lint --strict --recursive --parallel "${swift[@]}" || status=1
.venv/bin/ruff check --quiet --output-format concise . || status=1
.venv/bin/shellcheck "${shell[@]}" || status=1
.venv/bin/clang-format --dry-run --Werror "${c[@]}" || status=1
.venv/bin/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml || status=1
.venv/bin/check-jsonschema --quiet --builtin-schema vendor.github-actions .github/actions/*/action.yml || status=1
exit $status
