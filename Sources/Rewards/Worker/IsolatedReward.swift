import Foundation
import Support

/// A reward in processes of its own, among which a batch is divided.
package final class IsolatedReward: Reward {
    /// Name in logs and messages.
    package let name: String
    /// The objectives, in the order of the scores.
    package let objectives: [RewardObjective]
    /// Changes with code, weights and settings.
    package let fingerprint: String
    /// Whether equal images get equal scores.
    package let isDeterministic: Bool
    /// The ids of the processes that run at the moment.
    package var processes: [pid_t] { workers.compactMap(\.pid) }
    private let workers: [RestartingWorker]

    /// - Parameter workers: at least one.
    init(_ description: RewardDescription, workers: [RestartingWorker]) {
        name = description.name
        objectives = description.objectives
        isDeterministic = description.isDeterministic
        fingerprint = workers[0].fingerprint
        self.workers = workers
    }

    // All end at the same time, and not one after the other.
    deinit { for worker in workers { worker.dismiss() } }

    /// Divides a batch among the processes.
    /// - Throws: `RewardError` if a process fails twice or the reward reports an error.
    package func result(_ batch: RewardBatch) throws -> RewardResult {
        guard workers.count > 1, batch.count > 1 else { return try workers[0].result(batch) }
        let parts = min(workers.count, batch.count)
        let ranges = (0..<parts).map { batch.count * $0 / parts..<batch.count * ($0 + 1) / parts }
        let results = concurrently(parts) { part in
            Result { try self.workers[part].result(batch.part(ranges[part])) }
        }
        return RewardResult(concatenating: try results.map { try $0.get() }, counts: ranges.map(\.count))
    }
}
