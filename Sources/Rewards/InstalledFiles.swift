import CWorker
import Foundation

/// Finds the other files of this installation, wherever that is, and files that users name.
package enum InstalledFiles {
    /// The folder of the file that holds this code, which may be a shared library in another program, and the
    /// executable's.
    private static let homes: [URL] = {
        let own = dag_own_file().map { URL(fileURLWithPath: String(cString: $0)) }
        var folders: [URL] = []
        for file in [own, URL(fileURLWithPath: "/proc/self/exe")].compactMap({ $0 }) {
            let folder = file.resolvingSymlinksInPath().deletingLastPathComponent()
            if !folders.contains(folder) { folders.append(folder) }
        }
        return folders
    }()

    /// Returns the folders in which plugins are looked for: those of `DAG_REWARD_PATH`, beside the program,
    /// `lib/dag/rewards` of the installation.
    package static func rewardFolders(environment: [String: String] = ProcessInfo.processInfo.environment, homes: [URL]? = nil) -> [String]
    {
        let own = (environment["DAG_REWARD_PATH"] ?? "").split(separator: ":").map(String.init)
        return (homes ?? Self.homes).reduce(into: own) { folders, home in
            folders += [home.path, home.appendingPathComponent("../lib/dag/rewards").standardized.path].filter { !folders.contains($0) }
        }
    }

    /// Returns the program that runs rewards in a process of its own.
    /// - Throws: `RewardError` if it is not installed.
    static func worker() throws -> String {
        let places = homes.flatMap { home in
            ["dag-reward-worker", "../libexec/dag/dag-reward-worker", "../bin/dag-reward-worker"].map {
                home.appendingPathComponent($0).standardized.path
            }
        }
        guard let found = places.first(where: FileManager.default.isExecutableFile(atPath:)) else {
            throw RewardError(
                "dag-reward-worker is missing, looked for in \(places.joined(separator: ", ")); install it there, or use isolation=none")
        }
        return found
    }

    /// Returns the folder with a template of a reward for each language, and dag_reward.h: of the installation, or
    /// of the repository that the program was built in.
    /// - Throws: `RewardError` if there are no templates in either.
    package static func rewardTemplates() throws -> (templates: URL, header: URL) {
        let places = homes.flatMap { home in
            [("../share/dag/reward-templates", "../include"), ("../../../examples/plugins", "../../../include")].map { templates, include in
                (home.appendingPathComponent(templates).standardized, home.appendingPathComponent("\(include)/dag_reward.h").standardized)
            }
        }
        guard let found = places.first(where: { FileManager.default.fileExists(atPath: $0.0.path) }) else {
            throw RewardError(
                "the templates are missing, looked for in \(places.map(\.0.path).joined(separator: ", ")); install them with make install")
        }
        return found
    }

    /// Returns a path that stays right when this program changes its folder. Links are not resolved: the
    /// interpreter of a virtual environment is one.
    static func absolute(_ path: String) -> String {
        path.hasPrefix("/") ? path : "\(FileManager.default.currentDirectoryPath)/\(path)"
    }

    /// Returns the program that a shell would find; its name alone if there is none.
    package static func program(_ name: String) -> String {
        guard !name.contains("/") else { return absolute(name) }
        let folders = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":")
        return folders.lazy.map { absolute("\($0)/\(name)") }.first(where: FileManager.default.isExecutableFile(atPath:)) ?? name
    }
}
