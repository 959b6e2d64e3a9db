// swift-tools-version: 6.3
import PackageDescription

// The parsers under libFuzzer, apart from the package that users build: `make fuzz`, docs/reliability.md.
let package = Package(
    name: "fuzzing",
    dependencies: [.package(name: "dag", path: "..")],
    targets: [.executableTarget(name: "dag-fuzz", dependencies: [.product(name: "Parsers", package: "dag")], path: "Fuzz")]
)
