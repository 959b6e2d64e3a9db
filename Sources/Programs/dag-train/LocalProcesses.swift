import Commands
import DAGCore
import Foundation
import Synchronization

/// The other processes of `dag-train --processes N`, which rank 0 starts on this machine.
final class LocalProcesses: Sendable {
    private struct State {
        var processes: [Process] = []
        var haveMet = false
    }

    private let state = Mutex(State())

    /// Starts this program once more, with the same arguments.
    /// - Throws: an error of `Process`.
    func start(variables: [String: String]) throws {
        let rank = variables["RANK"] ?? ""
        try state.withLock { state in
            let process = Process()
            process.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
            process.arguments = Array(CommandLine.arguments.dropFirst())
            process.environment = ProcessInfo.processInfo.environment.merging(variables) { $1 }
            process.standardInput = FileHandle.nullDevice
            process.terminationHandler = { [self] _ in rankHasEnded(rank) }
            try process.run()
            state.processes.append(process)
        }
    }

    /// Says that all ranks are there. From now on they see each other's ends.
    func haveMet() { state.withLock { $0.haveMet = true } }

    /// Ends all processes if they have not met: a rank that never comes would be waited for.
    private func rankHasEnded(_ rank: String) {
        state.withLock { state in
            guard !state.haveMet else { return }
            report("dag-train: rank \(rank) has ended before all ranks had met: see what it printed, and start again\n")
            for process in state.processes where process.isRunning { process.terminate() }
            _exit(1)
        }
    }

    /// Waits for their ends. Each ends by itself when this process has left the team.
    func wait() { for process in state.withLock({ $0.processes }) { process.waitUntilExit() } }
}
