// swift-tools-version: 6.1
import Foundation
import PackageDescription

// Where libtorch lies: LIBTORCH=<folder with include/ and lib/>, else the one that scripts/setup.sh installs.
let libtorch = Context.environment["LIBTORCH"] ?? Context.packageDirectory + "/.libtorch/torch"
let torchHeaders: [CXXSetting] = [
    .unsafeFlags(["-isystem", libtorch + "/include", "-isystem", libtorch + "/include/torch/csrc/api/include", "-fvisibility=hidden"])
]
let torchLibraries: [LinkerSetting] = [
    .unsafeFlags(["-L" + libtorch + "/lib", "-Xlinker", "-rpath", "-Xlinker", libtorch + "/lib"]),
    .linkedLibrary("torch_cpu"), .linkedLibrary("c10"),
]

/// A reward plugin on libtorch, in Plugins/<name>; it exports its entry and nothing else.
func neuralReward(_ name: String) -> Target {
    let exports = Context.packageDirectory + "/Plugins/reward.map"
    return .target(
        name: "\(name)Reward", dependencies: ["RewardKit", "CDAGCore"], path: "Plugins/\(name)",
        linkerSettings: [.unsafeFlags(["-Xlinker", "--version-script=\(exports)", "-use-ld=lld"])])
}

let package = Package(
    name: "dag",
    platforms: [.macOS(.v14)],
    products: [
        .executable(name: "dag-train", targets: ["dag-train"]),
        .executable(name: "dag-sample", targets: ["dag-sample"]),
        .executable(name: "dag-reward", targets: ["dag-reward"]),
        .executable(name: "dag-reward-worker", targets: ["dag-reward-worker"]),
        .library(name: "dagcore", type: .dynamic, targets: ["CABI"]),
        .library(name: "jpeg_compressibility", type: .dynamic, targets: ["JPEGReward"]),
        .library(name: "warmth", type: .dynamic, targets: ["WarmthReward"]),
        .library(name: "aesthetic", type: .dynamic, targets: ["AestheticReward"]),
        .library(name: "imagereward", type: .dynamic, targets: ["ImageRewardReward"]),
        .library(name: "hps", type: .dynamic, targets: ["HPSv2Reward"]),
        .library(name: "cifar_classifier", type: .dynamic, targets: ["CIFARReward"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2"),
        .package(url: "https://github.com/jpsim/Yams", exact: "6.2.2"),
        .package(url: "https://github.com/swiftcsv/SwiftCSV", exact: "0.10.0"),
    ],
    targets: [
        // The tensor engine: libtorch behind a C shim.
        .target(name: "CTorch", cxxSettings: torchHeaders, linkerSettings: torchLibraries),
        .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
        .target(name: "Tensors", dependencies: ["CTorch", "CZlib"]),
        .target(name: "NN", dependencies: ["Tensors"]),
        .target(name: "Models", dependencies: ["NN", "CZlib"]),
        // Pictures and what scores them: no torch here, so that a reward's worker process starts in an instant.
        .systemLibrary(name: "CPNG", pkgConfig: "libpng", providers: [.apt(["libpng-dev"])]),
        .target(name: "CJPEG", linkerSettings: [.linkedLibrary("jpeg")]),
        .target(name: "Images", dependencies: ["CPNG", "CJPEG"]),
        .target(name: "CDAGCore", path: "include", publicHeadersPath: "."),
        // What all modules share: cancellation and progress, clock, moments, text.
        .target(name: "Support"),
        .target(name: "CWorker"),
        .target(
            name: "Rewards", dependencies: ["Support", "Images", "CDAGCore", "CWorker"], resources: [.embedInCode("Python/worker.py")]),
        // Functions of C libraries as rewards, called by their prototypes.
        .systemLibrary(name: "CFFI", pkgConfig: "libffi", providers: [.apt(["libffi-dev"])]),
        .target(name: "CFunctionReward", dependencies: ["Images", "Rewards", "CFFI"]),
        // The trainer.
        .target(
            name: "DAGCore", dependencies: ["Support", "Models", "Rewards", "CFunctionReward", "Yams", "SwiftCSV"],
            resources: [.embedInCode("Prompts/Resources")]),
        // The trainer as a C library: include/dagcore.h.
        // -fmodules: without it clang refuses the header of another target in C++20.
        .target(name: "CGuard", dependencies: ["CDAGCore"], cxxSettings: [.unsafeFlags(["-fmodules"])]),
        .target(
            name: "CABI", dependencies: ["Support", "DAGCore", "CDAGCore", "CGuard"], exclude: ["exports.map"],
            linkerSettings: [
                .unsafeFlags([
                    "-Xlinker", "--version-script=\(Context.packageDirectory)/Sources/CABI/exports.map", "-Xlinker",
                    "-soname=libdagcore.so.1", "-use-ld=lld",
                    // Threads of Swift's and libtorch's outlive every trainer: dlclose must not take their code away.
                    "-Xlinker", "-z", "-Xlinker", "nodelete",
                ])
            ]),
        .target(name: "Commands", dependencies: [.product(name: "ArgumentParser", package: "swift-argument-parser")]),
        .executableTarget(name: "dag-train", dependencies: ["Support", "Commands", "DAGCore"]),
        .executableTarget(name: "dag-sample", dependencies: ["Support", "Commands", "DAGCore"]),
        .executableTarget(
            name: "dag-reward", dependencies: ["Support", "Commands", "Images", "Rewards", "CFunctionReward", "CDAGCore", "CWorker"]),
        .executableTarget(name: "dag-reward-worker", dependencies: ["Rewards", "CFunctionReward"]),
        .target(name: "RewardKit", dependencies: ["Models", "CDAGCore"]),
        // Reward plugins: nothing but the C ABI connects them with the trainer.
        .target(
            name: "JPEGReward", dependencies: ["CDAGCore"], path: "Plugins/JPEG", publicHeadersPath: ".",
            cSettings: [.unsafeFlags(["-fvisibility=hidden"])], linkerSettings: [.linkedLibrary("jpeg")]),
        .target(
            name: "WarmthReward", dependencies: ["CDAGCore"], path: "Plugins/Warmth", publicHeadersPath: ".",
            cSettings: [.unsafeFlags(["-fvisibility=hidden"])]),
        .target(
            name: "CIFARReward", dependencies: ["CDAGCore"], path: "Plugins/CIFARClassifier",
            exclude: ["weights", "resnet.py", "train_fashion_classifier.py"], publicHeadersPath: ".",
            cSettings: [.unsafeFlags(["-fvisibility=hidden", "-std=gnu23"])], linkerSettings: [.linkedLibrary("jansson")]),
        neuralReward("Aesthetic"), neuralReward("HPSv2"), neuralReward("ImageReward"),
        .executableTarget(name: "reward-benchmark", dependencies: ["DAGCore"], path: "Benchmarks/Rewards", exclude: ["faults"]),
        // A world small enough to know the truth: see docs/results.md.
        .target(name: "AnalyticWorld", dependencies: ["DAGCore"], path: "Benchmarks/AnalyticWorld"),
        .executableTarget(
            name: "exact-density",
            dependencies: ["AnalyticWorld", "Tensors", .product(name: "ArgumentParser", package: "swift-argument-parser")],
            path: "Benchmarks/ExactDensity"),
        .executableTarget(name: "full-size", dependencies: ["Models"], path: "Benchmarks/FullSize"),
        .testTarget(name: "TensorsTests", dependencies: ["Tensors"]),
        .testTarget(name: "ModelsTests", dependencies: ["Models"]),
        .testTarget(name: "RewardKitTests", dependencies: ["RewardKit"]),
        .testTarget(name: "RewardsTests", dependencies: ["Support", "Rewards", "CFunctionReward", "dag-reward-worker", "dag-reward"]),
        .testTarget(name: "DAGCoreTests", dependencies: ["Support", "DAGCore", "AnalyticWorld"]),
        .target(name: "CABIFixtures", dependencies: ["CDAGCore"], path: "Tests/CABIFixtures", cxxSettings: [.unsafeFlags(["-fmodules"])]),
        .testTarget(name: "CABITests", dependencies: ["CABI", "CDAGCore", "CABIFixtures"]),
        .testTarget(name: "CommandLineTests", dependencies: ["dag-train", "dag-sample", "dag-reward"]),
    ],
    cxxLanguageStandard: .cxx20
)
