import Dispatch
import Support

/// A batch that is being scored on an evaluator's queue.
package final class PendingReward: @unchecked Sendable {
    private let group = DispatchGroup()
    private let evaluator: RewardEvaluator
    /// Indices of the evaluator's terms.
    private let terms: [Int]
    /// The batch; nil once it is scored.
    private var batch: RewardBatch?
    /// Written before the group is left, read after it was waited for; nil if the work was abandoned.
    private var result: Result<RewardReport, any Error>?

    init(_ batch: RewardBatch, by terms: [Int], of evaluator: RewardEvaluator) {
        self.batch = batch
        self.terms = terms
        self.evaluator = evaluator
        begin()
    }

    private func begin() {
        guard var batch else { return }
        group.enter()
        evaluator.inBackground { [self] isWanted in
            batch.isWanted = isWanted
            if isWanted() {
                let result = Result { try evaluator.evaluate(batch, by: terms) }
                // A failure of work that was abandoned says nothing of the reward.
                if (try? result.get()) != nil || isWanted() {
                    self.result = result
                    self.batch = nil
                }
            }
            group.leave()
        }
    }

    var isFinished: Bool { group.wait(timeout: .now()) == .success }

    /// Waits for the report; may be called again, and scores the batch anew if that was abandoned.
    ///
    /// The evaluator's monitor is told ten times a second.
    /// - Throws: `RewardError` of a reward; `Cancelled` if the monitor ends the wait.
    package func wait() throws -> RewardReport {
        let start = ContinuousClock.now
        defer { evaluator.addWaiting(start.duration(to: .now).seconds) }
        while true {
            while group.wait(timeout: .now() + 0.1) == .timedOut { try evaluator.monitor.reportWaiting() }
            if let result { return try result.get() }
            try evaluator.monitor.reportWaiting()
            begin()
        }
    }
}
