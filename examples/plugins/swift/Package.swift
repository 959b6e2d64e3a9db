// swift-tools-version: 6.0
import PackageDescription

// The folder with dag_reward.h.
let include = Context.environment["DAG_INCLUDE"] ?? Context.packageDirectory + "/../../../include"

let package = Package(
    name: "roughness",
    products: [.library(name: "roughness", type: .dynamic, targets: ["Roughness"])],
    targets: [
        .systemLibrary(name: "CDAGReward"),
        .target(
            name: "Roughness", dependencies: ["CDAGReward"],
            swiftSettings: [.unsafeFlags(["-Xcc", "-I" + include])],
            // Hides Swift's own symbols.
            linkerSettings: [.unsafeFlags(["-Xlinker", "--version-script=" + Context.packageDirectory + "/exports.map"])]),
    ]
)
