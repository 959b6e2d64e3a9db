#!/usr/bin/env bash
# Fuzzes a parser with libFuzzer and AddressSanitizer. `make fuzz` runs this.
#
#   scripts/fuzz.sh TARGET SECONDS [libFuzzer's options]      targets are the folders of Fuzzing/Corpus
#
# Starts from Fuzzing/Corpus/TARGET, and keeps what it finds worth keeping in runs/fuzz/TARGET. An input that crashes a parser, takes
# more than 10 seconds or more than 2 GB ends the run and lies in runs/fuzz/TARGET-crash-..., -timeout-... or -oom-...: mend the parser
# and put the input, made small, into Fuzzing/Corpus/TARGET under a name that begins with found-. The tests read all that is there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if (($# < 2)) || [[ ! -d Fuzzing/Corpus/$1 ]]; then
    echo "usage: scripts/fuzz.sh TARGET SECONDS; targets are" Fuzzing/Corpus/* >&2
    exit 2
fi
target=$1 seconds=$2
shift 2
# One flag for both: of several -sanitize the compiler takes the last, and --sanitize leaves the main function to libFuzzer.
swift build -c release -Xswiftc -enable-testing --package-path Fuzzing --scratch-path .build-fuzz \
    --sanitize fuzzer -Xswiftc -sanitize=fuzzer,address -Xswiftc -DFUZZING -Xcc -fsanitize=fuzzer-no-link,address
mkdir -p "runs/fuzz/$target"
# libtorch and Foundation are not instrumented: AddressSanitizer would take their containers for overrun, and what they keep for lost.
export ASAN_OPTIONS=detect_container_overflow=0:detect_leaks=0:allocator_may_return_null=1 SWIFT_BACKTRACE=enable=no OMP_NUM_THREADS=1
DAG_FUZZ_TARGET=$target exec .build-fuzz/release/dag-fuzz "runs/fuzz/$target" "Fuzzing/Corpus/$target" "-max_total_time=$seconds" \
    -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=1024 "-artifact_prefix=runs/fuzz/$target-" -print_final_stats=1 "$@"
