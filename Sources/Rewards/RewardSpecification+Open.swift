import Foundation
import Support

extension RewardSpecification {
    /// What kind of library it names.
    public enum Kind: Sendable {
        /// A shared library that speaks `dag_reward.h`.
        case plugin
        /// Functions of a C library.
        case cLibrary
        /// A Python file.
        case python
    }

    /// What kind of library it names.
    public var kind: Kind { library.hasPrefix("c:") ? .cLibrary : library.hasSuffix(".py") ? .python : .plugin }

    /// Opens the library, in a worker process unless isolation is off; no model is loaded.
    /// - Parameter monitor: may cancel the waiting for a worker process, also while rewards are made from the library.
    /// - Throws: `RewardError`.
    public func open(monitor: Monitor = Monitor()) throws -> any RewardFactory {
        let path = try path()
        guard isIsolated else { return try Self.open(path, kind: kind) }
        return try IsolatedLibrary(
            name: URL(fileURLWithPath: path).lastPathComponent, program: program(path), count: workers, timeout: timeout, monitor: monitor
        )
    }

    /// Opens the library and loads the model: a reward that is ready to score.
    /// - Parameter monitor: may cancel the waiting for a worker process.
    /// - Throws: `RewardError`.
    public func load(monitor: Monitor = Monitor()) throws -> any Reward {
        try open(monitor: monitor).make(options: options, device: device, timeout: timeout)
    }

    /// Opens a library in this process.
    static func open(_ path: String, kind: Kind) throws -> any RewardFactory {
        kind == .cLibrary ? try CLibrary(path: path) : try RewardLibrary(path: path)
    }

    /// The program that serves the reward in a process of its own.
    private func program(_ path: String) throws -> WorkerProcess.Program {
        guard kind == .python else {
            return WorkerProcess.Program(path: try InstalledFiles.worker(), arguments: [kind == .cLibrary ? "c" : "plugin", path])
        }
        let source = String(decoding: PackageResources.worker_py, as: UTF8.self)
        return WorkerProcess.Program(path: InstalledFiles.program(python), arguments: ["-u", "-c", source, path])
    }

    /// The file to open, by a path that is absolute, or the name of a C library. A plugin without a slash is looked for in the folders of
    /// `DAG_REWARD_PATH` (separated by colons), beside this code and in the installed folder; a C library without a slash is left to the
    /// system's search. Throws `RewardError`.
    public func path(in folders: [String] = InstalledFiles.rewardFolders()) throws -> String {
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
