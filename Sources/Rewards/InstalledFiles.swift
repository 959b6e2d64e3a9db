import CWorker
import Foundation

/// Where the other parts of this package lie: beside this code, wherever that was installed.
public enum InstalledFiles {
    /// Folders of the executable and of the file that holds this code, which may be a shared library in another program.
    private static let homes: [URL] = {
        let library = dag_own_file().map { URL(fileURLWithPath: String(cString: $0)) }
        var folders: [URL] = []
        for file in [URL(fileURLWithPath: "/proc/self/exe"), library].compactMap({ $0 }) {
            let folder = file.resolvingSymlinksInPath().deletingLastPathComponent()
            if !folders.contains(folder) { folders.append(folder) }
        }
        return folders
    }()

    /// Where plugins are looked for: `DAG_REWARD_PATH`, beside the program, `lib/dag/rewards` of the installation.
    public static func rewardFolders(environment: [String: String] = ProcessInfo.processInfo.environment, homes: [URL]? = nil) -> [String] {
        let own = (environment["DAG_REWARD_PATH"] ?? "").split(separator: ":").map(String.init)
        return (homes ?? Self.homes).reduce(into: own) { folders, home in
            folders += [home.path, home.appendingPathComponent("../lib/dag/rewards").standardized.path].filter { !folders.contains($0) }
        }
    }

    /// The program that runs rewards in a process of its own. Throws `RewardError` if it is not installed.
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
}
