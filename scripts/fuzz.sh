#!/usr/bin/env bash
# Fuzzes a parser with libFuzzer, AddressSanitizer with it, or says which parsers there are. `make fuzz` runs this.
#
#   scripts/fuzz.sh                       list the targets
#   scripts/fuzz.sh TARGET SECONDS [libFuzzer's options]
#
# Starts from Fuzzing/Corpus/TARGET, and keeps what it finds worth keeping in runs/fuzz/TARGET. An input that crashes a parser, takes
# more than 10 seconds or more than 2 GB ends the run and lies in runs/fuzz/TARGET-crash-..., -timeout-... or -oom-...: mend the parser
# and put the input, made small, into Fuzzing/Corpus/TARGET, which the tests read.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# One flag for both: of several -sanitize the compiler takes the last, and --sanitize leaves the main function to libFuzzer.
swift build -c release -Xswiftc -enable-testing --package-path Fuzzing --scratch-path .build-fuzz \
    --sanitize fuzzer -Xswiftc -sanitize=fuzzer,address -Xswiftc -DFUZZING -Xcc -fsanitize=fuzzer-no-link,address >&2
if (($# < 2)); then
    DAG_FUZZ_TARGET=? .build-fuzz/release/dag-fuzz -runs=0 2>&1 | sed -n 's/^dag-fuzz: //p'
    exit 2
fi
target=$1 seconds=$2
shift 2
mkdir -p "runs/fuzz/$target"
# libtorch and Foundation are not instrumented: their containers look overrun to AddressSanitizer, and what they keep for ever lost.
export ASAN_OPTIONS=detect_container_overflow=0:detect_leaks=0:allocator_may_return_null=1 SWIFT_BACKTRACE=enable=no OMP_NUM_THREADS=1
DAG_FUZZ_TARGET=$target exec .build-fuzz/release/dag-fuzz "runs/fuzz/$target" "Fuzzing/Corpus/$target" "-max_total_time=$seconds" \
    -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=1024 -artifact_prefix="runs/fuzz/$target-" -print_final_stats=1 "$@"
