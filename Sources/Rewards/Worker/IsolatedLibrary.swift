import Foundation
import Support

/// A reward library that is open in worker processes, each with its own copy of whatever the reward loads.
final class IsolatedLibrary: RewardFactory, @unchecked Sendable {
    let description: RewardDescription
    private let program: WorkerProcess.Program
    private let count: Int
    private let monitor: Monitor
    private let lock = NSLock()
    /// The process that described the library; the first reward is made in it.
    private var idle: WorkerProcess?

    /// Starts a process and asks it for the library's description.
    /// - Parameters:
    ///   - name: the library's file, for messages.
    ///   - count: number of processes that a reward runs in.
    ///   - timeout: seconds that the answer may take.
    ///   - monitor: may cancel the waiting for a process, here and in `make`.
    /// - Throws: `RewardError` if there is no description.
    init(name: String, program: WorkerProcess.Program, count: Int, timeout: Double, monitor: Monitor) throws {
        self.program = program
        self.count = count
        self.monitor = monitor
        do {
            let process = try WorkerProcess(program)
            let (answer, _) = try process.call(.describe, timeout: timeout, isWanted: { !monitor.isCancelled })
            guard case .description(let description, let version) = answer else {
                throw WorkerProcess.Ended(reason: "answered something else")
            }
            guard version == WorkerProtocol.version else {
                throw RewardError(
                    "\(program.path) is of another release than this program: it speaks version \(version) and not "
                        + "\(WorkerProtocol.version); install both anew")
            }
            try description.validateNames("reward \(name)")
            self.description = description
            idle = process
        } catch let ended as WorkerProcess.Ended {
            throw RewardError("reward \(name) cannot be opened: its worker \(ended.reason)")
        }
    }

    /// Loads the model in all processes at the same time.
    func make(options: [String: String], device: String, timeout: Double?) throws -> any Reward {
        try description.validate(options: options, device: device)
        let recipe = WorkerRecipe(
            name: description.name, objectives: description.objectives.count, program: program,
            request: .make(options: options, device: device, timeout: timeout), timeout: timeout ?? .infinity)
        nonisolated(unsafe) let first = lock.withLock { idle.take() }
        let workers = concurrently(count) { [monitor] index in
            Result { try RestartingWorker(recipe, in: index == 0 ? first : nil) { !monitor.isCancelled } }
        }
        return IsolatedReward(description, workers: try workers.map { try $0.get() })
    }
}
