// swift-tools-version: 6.3
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
let argumentParser = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")

/// A reward plugin in C, in Plugins/<folder>; it exports its entry and nothing else.
func cReward(_ name: String, _ folder: String, library: String? = nil, exclude: [String] = [], flags: [String] = []) -> Target {
    .target(
        name: name, dependencies: ["CDAGCore"], path: "Plugins/\(folder)", exclude: exclude, publicHeadersPath: ".",
        cSettings: [.unsafeFlags(["-fvisibility=hidden"] + flags)], linkerSettings: library.map { [.linkedLibrary($0)] } ?? [])
}

/// For plugins with parts that export symbols of their own: the entry and nothing else stays visible.
let exportsOneSymbol = LinkerSetting.unsafeFlags([
    "-Xlinker", "--version-script=\(Context.packageDirectory)/Plugins/reward.map", "-use-ld=lld",
])

/// A reward plugin on libtorch, in Plugins/<name>; it exports its entry and nothing else.
func neuralReward(_ name: String) -> Target {
    .target(
        name: "\(name)Reward", dependencies: ["RewardPluginKit", "Models", "NN", "Tensors", "CDAGCore"], path: "Plugins/\(name)",
        linkerSettings: [exportsOneSymbol])
}

/// A program, in Sources/Programs/<name>.
func program(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .executableTarget(name: name, dependencies: dependencies, path: "Sources/Programs/\(name)")
}

let package = Package(
    name: "dag",
    products: [
        .executable(name: "dag-train", targets: ["dag-train"]),
        .executable(name: "dag-sample", targets: ["dag-sample"]),
        .executable(name: "dag-eval", targets: ["dag-eval"]),
        .executable(name: "dag-report", targets: ["dag-report"]),
        .executable(name: "dag-lora", targets: ["dag-lora"]),
        .executable(name: "dag-reward", targets: ["dag-reward"]),
        .executable(name: "dag-reward-worker", targets: ["dag-reward-worker"]),
        .library(name: "dagcore", type: .dynamic, targets: ["CABI"]),
        .library(name: "jpeg_compressibility", type: .dynamic, targets: ["JPEGReward"]),
        .library(name: "warmth", type: .dynamic, targets: ["WarmthReward"]),
        .library(name: "http", type: .dynamic, targets: ["HTTPReward"]),
        .library(name: "aesthetic", type: .dynamic, targets: ["AestheticReward"]),
        .library(name: "imagereward", type: .dynamic, targets: ["ImageRewardReward"]),
        .library(name: "hps", type: .dynamic, targets: ["HPSv2Reward"]),
        .library(name: "pickscore", type: .dynamic, targets: ["PickScoreReward"]),
        .library(name: "clipscore", type: .dynamic, targets: ["CLIPScoreReward"]),
        .library(name: "cifar_classifier", type: .dynamic, targets: ["CIFARReward"]),
        // For the package in Benchmarks, which sees as much of it as the tests do.
        .library(name: "DAG", targets: ["AnalyticWorld", "DAGCore", "Images", "Models", "Rewards", "Tensors"]),
        // For the package in Fuzzing.
        .library(
            name: "Parsers",
            targets: ["CDAGCore", "CFunctionReward", "CIFARReward", "DAGCore", "Images", "Models", "NN", "Rewards", "Support", "Tensors"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2"),
        .package(url: "https://github.com/jpsim/Yams", exact: "6.2.2"),
        .package(url: "https://github.com/apple/swift-protobuf", exact: "1.39.0"),
    ],
    targets: [
        // The tensor engine: libtorch behind a C shim.
        .target(
            name: "CTorch", path: "Sources/C/CTorch",
            cxxSettings: torchHeaders + [.define("USE_C10D_GLOO"), .headerSearchPath("gloo-names")], linkerSettings: torchLibraries),
        .systemLibrary(name: "CZlib", path: "Sources/C/CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
        .target(name: "Tensors", dependencies: ["CTorch", "CZlib"]),
        .target(name: "NN", dependencies: ["Tensors"]),
        .systemLibrary(name: "CUTF8Proc", path: "Sources/C/CUTF8Proc", providers: [.apt(["libutf8proc-dev"])]),
        .target(name: "Models", dependencies: ["NN", "Tensors", "CUTF8Proc", "CZlib"]),

        // Images and what scores them: no torch here, so that a reward's worker process starts in an instant.
        .systemLibrary(name: "CPNG", path: "Sources/C/CPNG", pkgConfig: "libpng", providers: [.apt(["libpng-dev"])]),
        .target(
            name: "CImageFiles", path: "Sources/C/CImageFiles", linkerSettings: [.linkedLibrary("jpeg"), .linkedLibrary("png")]),
        .target(name: "Images", dependencies: ["CPNG", "CImageFiles"]),
        .target(name: "CDAGCore", path: ".", sources: ["Sources/C/CDAGCore"], publicHeadersPath: "include"),
        // What all modules share: cancellation and progress, clock, moments, text, prompt files.
        .target(name: "Support"),
        .target(name: "CWorker", path: "Sources/C/CWorker"),
        .target(
            name: "Rewards", dependencies: ["Support", "Images", "CDAGCore", "CWorker"],
            resources: [.embedInCode("Python/packages.py"), .embedInCode("Python/scores.py"), .embedInCode("Python/worker.py")]),
        // Functions of C libraries as rewards, called by their prototypes.
        .systemLibrary(name: "CFFI", path: "Sources/C/CFFI", pkgConfig: "libffi", providers: [.apt(["libffi-dev"])]),
        .target(name: "CFunctionReward", dependencies: ["Images", "Rewards", "CFFI"]),

        // Event files, which TensorBoard and others show.
        .target(
            name: "TensorBoard", dependencies: [.product(name: "SwiftProtobuf", package: "swift-protobuf")], exclude: ["events.proto"]),

        // The trainer.
        .target(
            name: "DAGCore",
            dependencies: ["Support", "CFunctionReward", "Images", "Models", "NN", "Rewards", "TensorBoard", "Tensors", "Yams"],
            resources: [.embedInCode("Prompts/Resources"), .embedInCode("Report/Resources")]),

        // The trainer as a C library: include/dagcore.h.
        // -fmodules: without it clang refuses the header of another target in C++20.
        .target(name: "CGuard", dependencies: ["CDAGCore"], path: "Sources/C/CGuard", cxxSettings: [.unsafeFlags(["-fmodules"])]),
        .target(
            name: "CABI",
            dependencies: ["Support", "CFunctionReward", "DAGCore", "Images", "Models", "Rewards", "Tensors", "CDAGCore", "CGuard"],
            exclude: ["exports.map"],
            linkerSettings: [
                .unsafeFlags([
                    "-Xlinker", "--version-script=\(Context.packageDirectory)/Sources/CABI/exports.map", "-Xlinker",
                    "-soname=libdagcore.so.1", "-use-ld=lld",
                    // Threads of Swift's and libtorch's outlive every trainer: dlclose must not take their code away.
                    "-Xlinker", "-z", "-Xlinker", "nodelete",
                ])
            ]),

        // Programs.
        .target(name: "CRestart", dependencies: ["CWorker"], path: "Sources/C/CRestart"),
        .target(name: "Commands", dependencies: ["CRestart", argumentParser], path: "Sources/Programs/Commands"),
        .target(name: "CommandSettings", dependencies: ["DAGCore", argumentParser], path: "Sources/Programs/CommandSettings"),
        program("dag-train", ["Support", "Commands", "CommandSettings", "DAGCore", "Rewards", "Yams", argumentParser]),
        program(
            "dag-eval", ["Support", "Commands", "CommandSettings", "DAGCore", "Images", "Models", "NN", "Tensors", argumentParser]),
        program("dag-lora", ["Support", "Commands", "DAGCore", "Models", "NN", "Tensors", argumentParser]),
        program("dag-report", ["Support", "Commands", "DAGCore", argumentParser]),
        program("dag-sample", ["Support", "Commands", "DAGCore", "Images", "Models", "NN", "Rewards", argumentParser]),
        program("dag-reward", ["Support", "Commands", "CFunctionReward", "Images", "Rewards", "CDAGCore", "CWorker", argumentParser]),
        program("dag-reward-worker", ["CFunctionReward", "Rewards"]),

        // Reward plugins: nothing but the C ABI connects them with the trainer.
        cReward("JPEGReward", "JPEG", library: "jpeg"),
        .target(
            name: "HTTPReward", dependencies: ["CDAGCore", "CImageFiles"], path: "Plugins/HTTP", publicHeadersPath: ".",
            cSettings: [.unsafeFlags(["-fvisibility=hidden", "-std=gnu23"])],
            linkerSettings: [.linkedLibrary("curl"), .linkedLibrary("jansson"), .linkedLibrary("png"), exportsOneSymbol]),
        cReward("WarmthReward", "Warmth"),
        cReward(
            "CIFARReward", "CIFARClassifier", library: "jansson", exclude: ["weights", "resnet.py", "train_fashion_classifier.py"],
            flags: ["-std=gnu23"]),
        .target(name: "RewardPluginKit", dependencies: ["Models", "Tensors", "CDAGCore"]),
        neuralReward("Aesthetic"), neuralReward("CLIPScore"), neuralReward("HPSv2"), neuralReward("ImageReward"),
        neuralReward("PickScore"),

        // Tests.
        .target(name: "TestSupport", dependencies: ["HostileDevice", "Images", "Rewards", "Tensors"], path: "Tests/TestSupport"),
        // A world small enough to know the truth: see docs/results.md.
        .target(
            name: "AnalyticWorld", dependencies: ["DAGCore", "Images", "Models", "NN", "Rewards", "Tensors"], path: "Tests/AnalyticWorld"),
        .target(
            name: "HostileDevice", path: "Tests/HostileDevice", cxxSettings: torchHeaders,
            linkerSettings: torchLibraries),
        .target(name: "CABIFixtures", dependencies: ["CDAGCore"], path: "Tests/CABIFixtures", cxxSettings: [.unsafeFlags(["-fmodules"])]),
        .testTarget(name: "TensorsTests", dependencies: ["TestSupport", "Tensors", "CTorch"]),
        .testTarget(name: "ModelsTests", dependencies: ["TestSupport", "Models", "NN", "Tensors"]),
        .testTarget(name: "RewardPluginKitTests", dependencies: ["TestSupport", "RewardPluginKit", "Models", "Tensors", "CDAGCore"]),
        .testTarget(
            name: "RewardsTests",
            dependencies: ["TestSupport", "Support", "CFunctionReward", "Images", "Rewards", "CDAGCore", "dag-reward-worker", "dag-reward"]),
        .testTarget(
            name: "DAGCoreTests",
            dependencies: [
                "TestSupport", "Support", "AnalyticWorld", "HostileDevice", "DAGCore", "Images", "Models", "NN", "Rewards", "Tensors",
                "Yams",
            ]),
        .testTarget(name: "CABITests", dependencies: ["TestSupport", "Support", "CABI", "CDAGCore", "CABIFixtures"]),
        .testTarget(
            name: "CommandLineTests",
            dependencies: [
                "TestSupport", "Support", "Tensors", "dag-train", "dag-sample", "dag-eval", "dag-report", "dag-lora", "dag-reward",
            ]),
    ],
    cxxLanguageStandard: .cxx20
)

// API pages (`make docs`): the plugin is fetched for these alone.
if Context.environment["DAG_DOCS"] != nil {
    package.dependencies.append(.package(url: "https://github.com/swiftlang/swift-docc-plugin", exact: "1.5.0"))
}
