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

    /// The kind of library that the specification names.
    package var kind: Kind {
        if library.hasPrefix("c:") { return .cLibrary }
        return library.hasSuffix(".py") ? .python : .plugin
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
        let path = try path()
        guard isIsolated else { return try opener(path, kind) }
        return try IsolatedLibrary(
            name: URL(fileURLWithPath: path).lastPathComponent, program: program(path), count: workers, timeout: timeout, monitor: monitor)
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
    private func program(_ path: String) throws -> WorkerProcess.Program {
        guard kind == .python else {
            return WorkerProcess.Program(path: try InstalledFiles.worker(), arguments: [kind.rawValue, path])
        }
        let source = String(decoding: PackageResources.scores_py + PackageResources.worker_py, as: UTF8.self)
        return WorkerProcess.Program(path: InstalledFiles.program(python), arguments: ["-u", "-c", source, path])
    }

    /// Returns the file to open, as an absolute path, or the name of a C library.
    ///
    /// A plugin without a slash is looked for in `folders`; a C library without a slash is left to the
    /// system's loader.
    /// - Parameter folders: by default those of `DAG_REWARD_PATH` (separated by colons), beside this code and
    ///   in the installed folder.
    /// - Throws: `RewardError` if there is no such file.
    package func path(in folders: [String] = InstalledFiles.rewardFolders()) throws -> String {
        if kind == .cLibrary {
            let name = String(library.dropFirst(2))
            guard !name.isEmpty else { throw RewardError("reward `c:` names no library; write c:libname.so,score=PROTOTYPE") }
            guard !name.contains("/") || FileManager.default.fileExists(atPath: name) else {
                throw RewardError("reward \(library): no such file")
            }
            return name.contains("/") ? InstalledFiles.absolute(name) : name
        }
        if library.contains("/") || kind == .python {
            guard FileManager.default.fileExists(atPath: library) else { throw RewardError("reward \(library): no such file") }
            return InstalledFiles.absolute(library)
        }
        let file = library.hasSuffix(".so") ? library : "lib\(library).so"
        guard let folder = folders.first(where: { FileManager.default.fileExists(atPath: "\($0)/\(file)") }) else {
            throw RewardError(
                "reward \(library): no \(file) in \(folders.joined(separator: ", ")); give a path with a slash or set DAG_REWARD_PATH")
        }
        return InstalledFiles.absolute("\(folder)/\(file)")
    }
}
