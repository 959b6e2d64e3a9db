import Dispatch
import Foundation
import Support

/// Mixes one or several rewards into the one that is trained, and scores in the background while the caller
/// goes on.
///
/// Batches are scored one after another, in the order of `submit`, whichever thread waits for them; the
/// rewards of a batch at the same time.
package final class RewardEvaluator: @unchecked Sendable {
    /// Text that changes whenever the mixed reward may.
    package let fingerprint: String
    /// Names of all objectives, in order.
    package let objectiveNames: [String]
    /// Called ten times a second while scores are waited for; may cancel the wait.
    package let monitor: Monitor

    let terms: [RewardTerm]
    private let queue = DispatchQueue(label: "dag.rewards")
    /// Guards `generation`, `waited` and `moments`.
    let lock = NSLock()
    /// Counts the calls of `abandon`; batches of an earlier generation are no longer wanted.
    private var generation = 0
    private var waited = 0.0
    /// Seconds for which callers have waited for scores so far.
    package var secondsWaited: Double { lock.withLock { waited } }
    /// Statistics of each term's trained objective.
    var moments: [RunningMoments]

    /// - Parameters:
    ///   - beta: factor of the mixed score in the target, for algorithms that square their product; nil: for
    ///     those that only compare scores.
    ///   - monitor: reports and ends the waiting for scores.
    /// - Throws: `RewardError` if there is no reward, or a specification does not fit its reward.
    package init(_ rewards: [(RewardSpecification, any Reward)], beta: Double? = nil, monitor: Monitor = Monitor()) throws {
        guard !rewards.isEmpty else { throw RewardError("there is no reward; give at least one") }
        let limit = ScoreLimit(beta: beta, terms: rewards.count)
        var uses: [String: Int] = [:]
        terms = try rewards.map { specification, reward in
            uses[reward.name, default: 0] += 1
            let use = uses[reward.name]!
            return try RewardTerm(specification, reward, prefix: use == 1 ? reward.name : "\(reward.name)#\(use)", limit: limit)
        }
        objectiveNames = terms.flatMap(\.names)
        fingerprint = terms.map(\.fingerprint).joined(separator: Self.separator)
        moments = terms.map { _ in RunningMoments() }
        self.monitor = monitor
    }

    /// Loads and mixes rewards given as `LIB[,key=value...]`.
    /// - Throws: `RewardError`.
    package convenience init(plugins: [String], monitor: Monitor = Monitor()) throws {
        try self.init(
            plugins.map { text in
                let specification = try RewardSpecification(text)
                return (specification, try specification.load(monitor: monitor))
            }, monitor: monitor)
    }

    /// Scores a batch and waits for it.
    /// - Parameter heldOut: whether rewards that are not trained on are asked as well.
    /// - Throws: `RewardError` of a reward; `Cancelled` if the monitor ends the wait, which ends everything
    ///   that is being scored too.
    package func score(_ batch: RewardBatch, heldOut: Bool = true) throws -> RewardReport {
        try finish(submit(batch, heldOut: heldOut))
    }

    /// Scores a batch on a background thread.
    /// - Parameter heldOut: as for `score`.
    package func submit(_ batch: RewardBatch, heldOut: Bool = true) -> PendingReward {
        PendingReward(batch, by: terms.indices.filter { heldOut || !terms[$0].isHeldOut }, of: self)
    }

    /// Adds to the seconds for which callers have waited.
    func addWaiting(_ seconds: Double) { lock.withLock { waited += seconds } }

    /// Waits for a batch; if that ends early, abandons everything that is being scored.
    func finish(_ pending: PendingReward) throws -> RewardReport {
        do { return try pending.wait() } catch {
            if !pending.isFinished { abandon() }
            throw error
        }
    }

    /// Abandons the batch that is being scored and those in the queue, until they are waited for again. A
    /// worker process that is at work is killed; a function of this program goes on to its end.
    package func abandon() { lock.withLock { generation += 1 } }

    /// Abandons the same, and waits until no reward is at work.
    package func abandonAndWait() {
        abandon()
        queue.sync {}
    }

    /// Works on the queue.
    /// - Parameter work: receives a function that says whether it is still wanted.
    func inBackground(_ work: @escaping (_ isWanted: @escaping @Sendable () -> Bool) -> Void) {
        let generation = lock.withLock { self.generation }
        nonisolated(unsafe) let work = work
        queue.async {
            // Weak: a reward that holds on to its batch must not hold on to all rewards.
            work { [weak self] in self.map { it in it.lock.withLock { it.generation == generation } } ?? false }
        }
    }

    /// Has some of the rewards score a batch, and mixes their scores.
    /// - Parameter asked: indices of terms.
    func evaluate(_ batch: RewardBatch, by asked: [Int]) throws -> RewardReport {
        let terms = asked.map { self.terms[$0] }
        let moments = normalization
        let answers =
            terms.count == 1
            ? [try terms[0].score(batch)]
            : try concurrently(terms.count) { index in Result { try terms[index].score(batch) } }.map { try $0.get() }
        var mixed = [Float](repeating: 0, count: batch.count)
        for ((index, term), scores) in zip(zip(asked, terms), answers) where !term.isHeldOut {
            for (sample, value) in term.trained(scores).enumerated() {
                mixed[sample] += term.factor * (term.specification.normalize ? moments[index].normalized(value) : value)
            }
        }
        return RewardReport(
            reward: mixed,
            objectives: zip(terms, answers).flatMap { term, scores in
                term.names.enumerated().map { ObjectiveScores($1, scores.column($0)) }
            },
            imputed: zip(terms, answers).reduce(0) { $0 + $1.0.imputed($1.1) },
            failures: answers.reduce(into: [:]) { all, scores in all.merge(scores.failures) { first, _ in first } })
    }
}
