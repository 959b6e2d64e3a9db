import Foundation
import Support

extension RewardSpecification {
    /// A kind of library; the raw value is its name for dag-reward-worker.
    package enum Kind: String, Sendable {
        /// A shared library that speaks `dag_reward.h`.
        case plugin
        /// Functions of a C library.
        case cLibrary = "c"
        /// A Python file.
        case python
    }

    /// The library that a specification names.
    package struct Location: Sendable, Equatable {
        /// An absolute path, or the name of a C library.
        package let path: String
        /// How it is opened.
        package let kind: Kind
    }

    /// Opens a library in this process.
    package typealias Opener = @Sendable (_ path: String, _ kind: Kind) throws -> any RewardFactory

    /// Opens the library, in a worker process unless isolation is off; no model is loaded.
    /// - Parameters:
    ///   - monitor: may cancel the waiting for a worker process, also while rewards are made from the
    ///     library.
    ///   - opener: opens the library if isolation is off. The default knows plugins; `openLibrary` of
    ///     CFunctionReward knows C libraries too.
    /// - Throws: `RewardError`.
    package func open(monitor: Monitor = Monitor(), opener: Opener = openPlugin) throws -> any RewardFactory {
        let location = try locate()
        guard isIsolated || location.kind != .python else {
            throw RewardError("reward \(library): a Python reward has a process of its own; leave isolation=none out")
        }
        guard isIsolated else { return try opener(location.path, location.kind) }
        return try IsolatedLibrary(
            name: URL(fileURLWithPath: location.path).lastPathComponent, program: program(location), count: workers, timeout: timeout,
            monitor: monitor)
    }

    /// Opens the library and loads the model: a reward that is ready to score.
    /// - Parameters:
    ///   - monitor: may cancel the waiting for a worker process.
    ///   - opener: as for `open`.
    /// - Throws: `RewardError`.
    package func load(monitor: Monitor = Monitor(), opener: Opener = openPlugin) throws -> any Reward {
        try open(monitor: monitor, opener: opener).make(options: options, device: device, timeout: timeout)
    }

    /// Opens a reward plugin in this process.
    /// - Throws: `RewardError`, also for a library of another kind.
    @Sendable package static func openPlugin(_ path: String, kind: Kind) throws -> any RewardFactory {
        guard kind == .plugin else { throw RewardError("library \(path): this program opens plugins only; leave isolation=none out") }
        return try RewardLibrary(path: path)
    }

    /// The program that serves the reward in a process of its own.
    private func program(_ location: Location) throws -> WorkerProcess.Program {
        guard location.kind == .python else {
            return WorkerProcess.Program(path: try InstalledFiles.worker(), arguments: [location.kind.rawValue, location.path])
        }
        let source = String(decoding: PackageResources.scores_py + PackageResources.worker_py, as: UTF8.self)
        return WorkerProcess.Program(
            path: InstalledFiles.program(python ?? Self.defaultPython), arguments: ["-u", "-c", source, location.path])
    }

    /// The interpreter where none is named: that of the environment variable `DAG_PYTHON`, which `dagcore` sets to the Python
    /// that it runs in, or `python3`.
    package static var defaultPython: String {
        let named = ProcessInfo.processInfo.environment["DAG_PYTHON"] ?? ""
        return named.isEmpty ? "python3" : named
    }

    /// Whether the library may be one that a Python package offers: a name, and no file's.
    var isPackageName: Bool { !["/", ":", "."].contains(where: library.contains) }

    /// Finds the library.
    ///
    /// A name is looked for in `folders`, and then in the packages of the Python; if `python` is given, only there. A C
    /// library without a slash is left to the system's loader.
    /// - Parameter folders: by default those of `DAG_REWARD_PATH` (separated by colons), beside this code and
    ///   in the installed folder.
    /// - Throws: `RewardError` if there is no such file, or a name is that of several packages' rewards.
    package func locate(in folders: [String] = InstalledFiles.rewardFolders()) throws -> Location {
        if library.hasPrefix("c:") {
            let name = String(library.dropFirst(2))
            guard !name.isEmpty else { throw RewardError("reward `c:` names no library; write c:libname.so,score=PROTOTYPE") }
            guard !name.contains("/") || FileManager.default.fileExists(atPath: name) else {
                throw RewardError("reward \(library): no such file")
            }
            return Location(path: name.contains("/") ? InstalledFiles.absolute(name) : name, kind: .cLibrary)
        }
        if library.contains("/") || library.hasSuffix(".py") {
            guard FileManager.default.fileExists(atPath: library) else { throw RewardError("reward \(library): no such file") }
            return Self.location(library)
        }
        let file = library.hasSuffix(".so") ? library : "lib\(library).so"
        if python == nil, let folder = folders.first(where: { FileManager.default.fileExists(atPath: "\($0)/\(file)") }) {
            return Self.location("\(folder)/\(file)")
        }
        let missing = "reward \(library): no \(file) in \(folders.joined(separator: ", "))"
        let remedy = "give a path with a slash or set DAG_REWARD_PATH"
        guard isPackageName else { throw RewardError("\(missing); \(remedy)") }
        return try packaged(missing, remedy)
    }

    private static func location(_ path: String) -> Location {
        Location(path: InstalledFiles.absolute(path), kind: path.hasSuffix(".py") ? .python : .plugin)
    }

    /// Finds the library among the packages of the Python.
    /// - Parameters:
    ///   - missing: what was not found before, where no Python was named.
    ///   - remedy: the remedy for that.
    private func packaged(_ missing: String, _ remedy: String) throws -> Location {
        let interpreter = InstalledFiles.program(python ?? Self.defaultPython)
        let all: [PackagedReward]
        do { all = try PackagedReward.all(of: interpreter) } catch {
            guard python == nil else { throw RewardError("reward \(library): \(error)") }
            throw RewardError("\(missing), and of Python packages: \(error); \(remedy)")
        }
        let found = all.filter { $0.name == library }
        guard let reward = found.first else {
            guard python != nil else {
                throw RewardError("\(missing), nor in a package of \(interpreter); \(remedy), or python=PATH for packages of another")
            }
            let known = all.map(\.name)
            throw RewardError(
                "reward \(library): no package of \(interpreter) has it (entry points dag_rewards); "
                    + (known.isEmpty ? "none has any reward" : "there are \(known.joined(separator: ", "))"))
        }
        guard found.count == 1 else {
            throw RewardError(
                "reward \(library): several packages of \(interpreter) have one (\(found.map(\.distribution).joined(separator: ", "))); "
                    + "uninstall all but one, or give a path with a slash")
        }
        guard let file = reward.file else {
            throw RewardError(
                "reward \(library) of the package \(reward.distribution): \(reward.problem ?? "it has no file"); "
                    + "docs/packaging.md says what a package contains")
        }
        return Self.location(file)
    }
}
