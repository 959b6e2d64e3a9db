// swift-tools-version: 6.3
import PackageDescription

// The programs behind docs/results.md and docs/performance.md, apart from the package that users build: `make benchmarks`.
let dag = Target.Dependency.product(name: "DAG", package: "dag")
let package = Package(
    name: "benchmarks",
    dependencies: [
        .package(name: "dag", path: ".."),
        .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2"),
    ],
    targets: [
        .executableTarget(
            name: "exact-density", dependencies: [dag, .product(name: "ArgumentParser", package: "swift-argument-parser")],
            path: "ExactDensity"),
        .executableTarget(
            name: "model-benchmark", dependencies: [dag, .product(name: "ArgumentParser", package: "swift-argument-parser")],
            path: "Models"),
        .executableTarget(
            name: "reward-benchmark", dependencies: [dag, .product(name: "dag-reward-worker", package: "dag")], path: "Rewards",
            exclude: ["faults"]),
    ]
)
