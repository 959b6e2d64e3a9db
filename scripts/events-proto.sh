#!/usr/bin/env bash
# Makes Sources/TensorBoard/events.pb.swift of events.proto beside it, with the protoc-gen-swift of the swift-protobuf that
# Package.swift names. Needs protoc (Debian: protobuf-compiler). What it makes is committed, so that a build needs neither.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

command -v protoc >/dev/null || {
    echo "events-proto: there is no protoc; install Debian's protobuf-compiler" >&2
    exit 1
}
swift package resolve
swift build -c release --package-path .build/checkouts/swift-protobuf --scratch-path .build/protoc-gen-swift --product protoc-gen-swift
protoc --plugin=.build/protoc-gen-swift/release/protoc-gen-swift --proto_path=Sources/TensorBoard \
    --swift_opt=Visibility=Internal --swift_out=Sources/TensorBoard events.proto
