import Dispatch
import Foundation
import Images
import Support

/// Mixes one or several rewards into the one that is trained, and scores in the background while the caller goes on.
///
/// Batches are scored one after another, in the order of `submit`, whichever thread waits for them; the rewards of a batch at the same time.
public final class RewardEvaluator: @unchecked Sendable {
    /// Changes whenever the mixed reward may.
    public let fingerprint: String
    /// Names of all objectives, in order.
    public let objectiveNames: [String]

    private let terms: [RewardTerm]
    private let queue = DispatchQueue(label: "dag.rewards")
    private let lock = NSLock()
    private var counters = (calls: 0, images: 0)
    /// Batches of an earlier generation are no longer wanted.
    private var generation = 0
    private var moments: [RunningMoments]

    /// Throws `RewardError` if there is none, or a specification names an objective that its reward does not have.
    public init(_ rewards: [(RewardSpecification, any Reward)]) throws {
        guard !rewards.isEmpty else { throw RewardError("there is no reward; give at least one") }
        var uses: [String: Int] = [:]
        terms = try rewards.map { specification, reward in
            uses[reward.name, default: 0] += 1
            let use = uses[reward.name]!
            return try RewardTerm(specification, reward, prefix: use == 1 ? reward.name : "\(reward.name)#\(use)")
        }
        objectiveNames = terms.flatMap(\.names)
        fingerprint = terms.map(\.fingerprint).joined(separator: Self.separator)
        moments = terms.map { _ in RunningMoments() }
    }

    /// Loads and mixes rewards given as `LIB[,key=value...]`. Throws `RewardError`.
    public convenience init(plugins: [String]) throws {
        try self.init(
            plugins.map { text in
                let specification = try RewardSpecification(text)
                return (specification, try specification.load())
            })
    }

    /// Batches scored so far.
    public var calls: Int { lock.withLock { counters.calls } }
    /// Pictures scored so far.
    public var imagesScored: Int { lock.withLock { counters.images } }

    /// Scores a batch and waits for it. Throws what a reward throws.
    /// - Parameters:
    ///   - heldOut: whether rewards that are not trained on are asked as well.
    ///   - check: called now and then while waiting; what it throws ends the wait, and everything that is being scored with it.
    public func score(_ batch: RewardBatch, heldOut: Bool = true, check: () throws -> Void = {}) throws -> RewardReport {
        try finish(submit(batch, heldOut: heldOut), check)
    }

    /// Scores a batch on a background thread.
    /// - Parameter heldOut: as for `score`.
    public func submit(_ batch: RewardBatch, heldOut: Bool = true) -> PendingReward {
        Pending(on: self) { isWanted in
            var batch = batch
            batch.isWanted = isWanted
            return try self.evaluate(batch, heldOut: heldOut)
        }
    }

    /// Has every reward answer for a few pictures before they are relied on: see `Reward.selfCheck`. Of a reward whose failures do not end
    /// the run, the pictures that it can score have to do.
    /// - Parameter check: as for `score`.
    /// - Returns: a line for each reward that cannot score some.
    public func selfCheck(images: ImageBatch, prompts: [String]? = nil, check: () throws -> Void = {}) throws -> [String] {
        let checked = Pending(on: self) { isWanted in
            try self.terms.compactMap { try $0.selfCheck(images: images, prompts: prompts, isWanted) }
        }
        return try finish(checked, check)
    }

    /// Abandons the batches that wait and the one that is being scored, until somebody waits for them again. A worker process that is at work
    /// is killed; a function of this program goes on to its end.
    public func abandon() { lock.withLock { generation += 1 } }

    /// The same, and waits for that end: no reward is at work afterwards.
    public func abandonAndWait() {
        abandon()
        queue.sync {}
    }

    /// Works on the queue. The work is told whether it is still wanted.
    fileprivate func inBackground(_ work: @escaping (_ isWanted: @escaping @Sendable () -> Bool) -> Void) {
        let generation = lock.withLock { self.generation }
        nonisolated(unsafe) let work = work
        queue.async {
            // Weak: a reward that holds on to its batch must not hold on to all rewards.
            work { [weak self] in self.map { it in it.lock.withLock { it.generation == generation } } ?? false }
        }
    }

    private func finish<Value>(_ pending: Pending<Value>, _ check: () throws -> Void) throws -> Value {
        do { return try pending.wait(check) } catch {
            if !pending.isFinished { abandon() }
            throw error
        }
    }

    private func evaluate(_ batch: RewardBatch, heldOut: Bool) throws -> RewardReport {
        let start = monotonicSeconds()
        let asked = zip(terms, normalization).filter { heldOut || !$0.0.isHeldOut }
        let terms = asked.map(\.0)
        let answers =
            terms.count == 1
            ? [try terms[0].score(batch)]
            : try concurrently(terms.count) { index in Result { try terms[index].score(batch) } }.map { try $0.get() }
        var mixed = [Float](repeating: 0, count: batch.count)
        var columns: [String: [Float]] = [:]
        for ((term, moments), answer) in zip(asked, answers) {
            for (name, column) in zip(term.names, answer.columns) { columns[name] = column }
            guard !term.isHeldOut else { continue }
            for sample in mixed.indices {
                let value = answer.trained[sample]
                mixed[sample] += term.factor * (term.specification.normalize ? moments.normalized(value) : value)
            }
        }
        lock.withLock {
            counters.calls += 1
            counters.images += batch.count
        }
        return RewardReport(
            reward: mixed, objectives: columns, imputed: answers.reduce(0) { $0 + $1.imputed },
            failures: answers.reduce(into: [:]) { all, answer in all.merge(answer.failures) { first, _ in first } },
            seconds: monotonicSeconds() - start)
    }
}

extension RewardEvaluator {
    /// Running statistics of each reward's trained objective, which `normalize=true` uses. They change only when told to.
    public var normalization: [RunningMoments] {
        get { lock.withLock { moments } }
        set { lock.withLock { if newValue.count == terms.count { moments = newValue } } }
    }

    /// Whether a reward is to be normalised and there are no statistics yet.
    public var wantsStatistics: Bool { zip(terms, normalization).contains { $0.specification.normalize && $1.isEmpty } }

    /// Takes scored pictures into the statistics.
    /// - Parameter objectives: as in `RewardReport`.
    public func observe(_ objectives: [String: [Float]]) {
        lock.withLock {
            for (index, term) in terms.enumerated() {
                for value in objectives[term.names[term.trained]] ?? [] where value.isFinite { moments[index].add(value) }
            }
        }
    }

    /// The trained reward without normalisation, which can be compared over a run: `[count]`, NaN where a score is missing.
    /// - Parameter objectives: as in `RewardReport`.
    public func total(_ objectives: [String: [Float]]) -> [Float] {
        terms.filter { !$0.isHeldOut }.reduce(into: [Float](repeating: 0, count: objectives.first?.value.count ?? 0)) { sum, term in
            for (sample, value) in (objectives[term.names[term.trained]] ?? []).enumerated() { sum[sample] += term.factor * value }
        }
    }

    /// What held-out rewards say, by the objective's name: the larger, the better.
    /// - Parameter objectives: as in `RewardReport`.
    public func heldOut(_ objectives: [String: [Float]]) -> [String: [Float]] {
        let held = terms.filter(\.isHeldOut).map { term in
            let name = term.names[term.trained]
            return (name, (objectives[name] ?? []).map { $0 * term.reward.objectives[term.trained].direction.sign })
        }
        return Dictionary(held) { first, _ in first }
    }
}

/// A batch that is being scored.
public typealias PendingReward = Pending<RewardReport>

/// What is being found out on a thread of an evaluator's.
public final class Pending<Value>: @unchecked Sendable {
    fileprivate typealias Work = (_ isWanted: @escaping @Sendable () -> Bool) throws -> Value

    private let group = DispatchGroup()
    private let evaluator: RewardEvaluator
    /// What finds it out; nil when that is done.
    private var work: Work?
    /// Written before the group is left, read after it was waited for; nil if the work was abandoned.
    private var result: Result<Value, any Error>?

    fileprivate init(on evaluator: RewardEvaluator, _ work: @escaping Work) {
        (self.evaluator, self.work) = (evaluator, work)
        begin()
    }

    private func begin() {
        guard let work else { return }
        group.enter()
        evaluator.inBackground { [self] isWanted in
            if isWanted() {
                let result = Result { try work(isWanted) }
                // What fails because nobody wants it says nothing of the reward.
                if (try? result.get()) != nil || isWanted() { (self.result, self.work) = (result, nil) }
            }
            group.leave()
        }
    }

    fileprivate var isFinished: Bool { group.wait(timeout: .now()) == .success }

    /// The value, as soon as there is one; may be called again, and begins the work anew if that was abandoned. Throws what was thrown instead.
    /// - Parameter check: called ten times a second while waiting; what it throws ends the wait.
    public func wait(_ check: () throws -> Void = {}) throws -> Value {
        while true {
            while group.wait(timeout: .now() + 0.1) == .timedOut { try check() }
            if let result { return try result.get() }
            try check()
            begin()
        }
    }
}
