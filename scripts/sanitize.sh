#!/usr/bin/env bash
# Runs the quick Swift tests under AddressSanitizer or ThreadSanitizer.
#
#   scripts/sanitize.sh address|thread [FILTER]      FILTER: a suite's or module's name, such as CABITests
#
# Builds everything once more, into .build-address or .build-thread. libtorch and Foundation are not instrumented. Tests whose plugin
# crashes on purpose may fail, and under ThreadSanitizer those that load plugins written in Swift: a sanitizer's report is what counts.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

kind=${1:-}
if [[ $kind != address && $kind != thread ]]; then
    echo "usage: scripts/sanitize.sh address|thread [FILTER]" >&2
    exit 2
fi
torch=${LIBTORCH:-$PWD/.libtorch/torch}/lib
flags=(-c release -Xswiftc -enable-testing --build-tests --sanitize "$kind" --scratch-path ".build-$kind")
swift build "${flags[@]}"
# Linked once more, without the version scripts of libdagcore.so: they hide the sanitizer's malloc from the libraries.
cd "$(swift build "${flags[@]}" --show-bin-path)"
swiftc -sanitize="$kind" -use-ld=lld -module-name dagPackageTests -emit-executable -o sanitized-tests \
    @dagPackageTests.product/Objects.LinkFileList -L . -L "$torch" -Xlinker -rpath -Xlinker "$torch" \
    -ltorch_cpu -lc10 -lpng -ljpeg -lz -lffi -lutf8proc -ljansson -lstdc++ -lTesting -lXCTest
export ASAN_OPTIONS=detect_leaks=0:detect_container_overflow=0:handle_segv=0:handle_abort=0:allocator_may_return_null=1
export TSAN_OPTIONS=handle_segv=0:allocator_may_return_null=1 SWIFT_BACKTRACE=enable=no DAG_QUICK=1 OMP_NUM_THREADS=1
exec ./sanitized-tests --testing-library swift-testing --no-parallel ${2:+--filter "$2"}
