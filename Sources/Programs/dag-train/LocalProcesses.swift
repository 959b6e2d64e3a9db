import DAGCore
import Foundation

/// The other processes of `dag-train --processes N`, which rank 0 starts on this machine.
final class LocalProcesses {
    private var processes: [Process] = []

    /// Starts this program once more, with the same arguments.
    /// - Throws: an error of `Process`.
    func start(variables: [String: String]) throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        process.arguments = Array(CommandLine.arguments.dropFirst())
        process.environment = ProcessInfo.processInfo.environment.merging(variables) { $1 }
        process.standardInput = FileHandle.nullDevice
        try process.run()
        processes.append(process)
    }

    /// Waits for their ends. Each ends by itself when this process has left the team.
    func wait() { for process in processes { process.waitUntilExit() } }
}
