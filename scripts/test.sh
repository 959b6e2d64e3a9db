#!/usr/bin/env bash
# Builds everything, then runs the Swift tests, a short training, and the Python tests on what it wrote.
# The last line is "N passed, N failed"; the exit status is 0 only if all passed and each runner ran something.
#
#   scripts/test.sh [--lint] [--quick]
#
#     --lint    also check the style of all code (scripts/lint.sh); violations count as one failure
#     --quick   the Swift tests alone, without the slow ones (`.slow` in the sources)
#
# The Python tests need .venv, from scripts/setup.sh --python. Skipped tests count as neither; their names are printed at the end.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
root=$PWD

# The Makefile builds with the same flags, so there is one configuration and nothing is compiled twice.
read -ra flags <<<"${SWIFT_FLAGS:--c release -Xswiftc -enable-testing}"
passed=0 failed=0 lint=no quick=no
for word; do
    case $word in
    --lint) lint=yes ;;
    --quick) quick=yes ;;
    *)
        echo "usage: scripts/test.sh [--lint] [--quick]" >&2
        exit 2
        ;;
    esac
done
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
trap 'exit 130' INT TERM

say() { printf '\n==> %s\n' "$*"; }
failure() { # what
    printf 'FAILED: %s\n' "$1"
    failed=$((failed + 1))
}
# Names and reasons, as both runners' logs have them.
skipped() {
    cat "$work"/*.log 2>/dev/null | sed -nE 's/^➜ (Test|Suite) (.*) skipped[:.] ?/\2  /p; s/^SKIPPED \[[0-9]+\] /pytest: /p' | sort
}
finish() {
    if [[ -n $(skipped) ]]; then
        say "Skipped"
        skipped
    fi
    printf '\n%d passed, %d failed\n' "$passed" "$failed"
    if ((failed == 0 && passed > 0)); then exit 0; fi
    exit 1
}
# Adds up what a runner reported: JUnit's XML, which a runner writes when it ends. The log counts if it never got there.
count() { # name, exit status, report, log
    local counts p f
    counts=$(
        python3 - "$3" "$4" <<'PYTHON'
import re, sys
import xml.etree.ElementTree as ET
report, log = sys.argv[1:]
passed = failed = 0
try:
    # One <failure> per broken expectation: a case counts once. Skipped ones count as neither.
    for case in ET.parse(report).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif case.find("skipped") is None:
            passed += 1
except (OSError, ET.ParseError):
    text = open(log, errors="replace").read()
    passed = len(re.findall(r"^✔ Test (?!run with ).* passed after ", text, re.M))
    failed = len(re.findall(r"^✘ Test (?!run with ).* failed after ", text, re.M))
print(passed, failed)
PYTHON
    ) || counts="0 0"
    read -r p f <<<"$counts"
    passed=$((passed + p)) failed=$((failed + f))
    if (($2 != 0 && f == 0)); then
        failure "$1 ended with status $2 and no failed test: a crash, or nothing was run"
    elif ((p + f == 0)); then
        failure "$1 ran no test"
    fi
}

if [[ $lint == yes ]]; then
    say "Style"
    scripts/lint.sh || failure "lint (make format repairs most of it)"
fi

say "Build"
# What a module imports has to be declared in Package.swift.
if ! swift build "${flags[@]}" --build-tests --explicit-target-dependency-import-check error </dev/null; then
    failure "the build"
    finish
fi
binaries=$(swift build "${flags[@]}" --show-bin-path)

say "Swift tests"
if [[ $quick == yes ]]; then export DAG_QUICK=1; else unset DAG_QUICK; fi
# --disable-xctest: all tests are swift-testing's. --no-parallel: each uses all cores already.
swift test "${flags[@]}" --skip-build --no-parallel --disable-xctest --xunit-output "$work/swift.xml" </dev/null 2>&1 | tee "$work/swift.log"
count "swift test" "${PIPESTATUS[0]}" "$work/swift.xml" "$work/swift.log"

if [[ $quick == yes ]]; then finish; fi

say "Benchmarks and fuzz targets"
for package in Benchmarks Fuzzing; do
    swift build "${flags[@]}" --package-path $package --scratch-path .build </dev/null || failure "the build of $package"
done

say "A short training"
DAG_BIN=$binaries DAG_RUN=$work/run
export DAG_BIN DAG_RUN
"$DAG_BIN/dag-train" --model "$root/models/tiny-sd" --reward-plugin libjpeg_compressibility.so --prompts tiny-sd \
    --epochs 2 --steps 5 --batches-per-epoch 1 --sample-batch-size 8 --train-batch-size 4 --gradient-accumulation-steps 1 \
    --precision fp32 --learning-rate 1e-3 --seed 1 --output "$DAG_RUN" </dev/null 2>&1
status=$?
((status == 0)) || failure "dag-train ended with status $status"

say "An installed copy"
export DAG_PREFIX=$work/prefix
scripts/install.sh "$DAG_PREFIX" || failure "scripts/install.sh ended with an error"

say "Python tests"
if [[ -x .venv/bin/python ]]; then
    .venv/bin/python -m pytest Tests/python -rs -p no:cacheprovider --junitxml "$work/python.xml" </dev/null 2>&1 | tee "$work/python.log"
    count pytest "${PIPESTATUS[0]}" "$work/python.xml" "$work/python.log"
else
    failure "pytest: there is no .venv; run scripts/setup.sh --python"
fi

finish
