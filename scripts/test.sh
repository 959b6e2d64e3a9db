#!/usr/bin/env bash
# Builds everything, then runs the Swift tests, a short training, and the Python tests on what it wrote: two lanes at the same time,
# each with half of the cores, since a test of these small models keeps few of them busy.
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
lane=
trap 'if [[ -n $lane ]]; then kill -- "-$lane" 2>/dev/null; fi; rm -rf -- "$work"' EXIT
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

# What swift test starts, all tests being swift-testing's. Of two of swift test itself at a time one now and then ends with
# status 1 and no word.
# --no-parallel: a test measures memory, threads and processes of its own. NO_COLOR: the pipe is no terminal.
swift_tests() { # name, what to run...
    NO_COLOR=1 "$binaries/dagPackageTests.xctest" --testing-library swift-testing --no-parallel --xunit-output "$work/$1.xml" "${@:2}" \
        </dev/null 2>&1 | tee "$work/$1.log"
    return "${PIPESTATUS[0]}"
}

if [[ $quick == yes ]]; then
    say "Swift tests"
    DAG_QUICK=1 swift_tests quick
    count "swift test" $? "$work/quick.xml" "$work/quick.log"
    finish
fi
unset DAG_QUICK

say "Benchmarks and fuzz targets"
for package in Benchmarks Fuzzing; do
    swift build "${flags[@]}" --package-path $package --scratch-path .build </dev/null || failure "the build of $package"
done

if [[ -z ${OMP_NUM_THREADS:-} ]]; then
    cores=$(nproc)
    export OMP_NUM_THREADS=$((cores > 1 ? cores / 2 : 1))
fi
export DAG_BIN=$binaries DAG_RUN=$work/run DAG_PREFIX=$work/prefix
# The lane beside the core's tests; each step leaves its exit status behind.
programs() {
    say "Swift tests of all but the core"
    swift_tests others --skip "$core"
    echo $? >"$work/others.status"

    say "A short training"
    "$DAG_BIN/dag-train" --model "$root/models/tiny-sd" --reward-plugin libjpeg_compressibility.so --prompts tiny-sd \
        --epochs 2 --steps 5 --batches-per-epoch 1 --sample-batch-size 8 --train-batch-size 4 --gradient-accumulation-steps 1 \
        --precision fp32 --learning-rate 1e-3 --seed 1 --output "$DAG_RUN" </dev/null 2>&1
    echo $? >"$work/training.status"

    say "An installed copy"
    scripts/install.sh "$DAG_PREFIX"
    echo $? >"$work/install.status"

    say "Python tests"
    .venv/bin/python -m pytest Tests/python -rs -p no:cacheprovider --junitxml "$work/python.xml" </dev/null 2>&1 | tee "$work/python.log"
    echo "${PIPESTATUS[0]}" >"$work/python.status"
}
core='^DAGCoreTests\.'
set -m # a process group of its own, which the EXIT trap ends
programs </dev/null >"$work/programs.txt" 2>&1 &
lane=$!
set +m

say "Swift tests of the core"
# Several runs of one process share the cores: a thread that spins while it waits keeps the others from them.
OMP_WAIT_POLICY=passive swift_tests core --filter "$core"
echo $? >"$work/core.status"
wait "$lane"
lane=
cat "$work/programs.txt"

status() { cat "$work/$1.status"; }
count "swift test of the core" "$(status core)" "$work/core.xml" "$work/core.log"
count "swift test of the others" "$(status others)" "$work/others.xml" "$work/others.log"
(($(status training) == 0)) || failure "dag-train ended with status $(status training)"
(($(status install) == 0)) || failure "scripts/install.sh ended with status $(status install)"
if [[ -x .venv/bin/python ]]; then
    count pytest "$(status python)" "$work/python.xml" "$work/python.log"
else
    failure "pytest: there is no .venv; run scripts/setup.sh --python"
fi

finish
