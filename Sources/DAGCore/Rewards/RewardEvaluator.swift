import Dispatch
import Foundation

/// What the rewards say about a batch.
public struct RewardReport: Sendable {
    /// `[count]`: the sum over rewards of weight times trained objective, where a minimised objective is negated. Larger is better.
    public let reward: [Float]
    /// Every objective of every reward as it was given, `[count]` each, by names such as `warmth/red`.
    public let objectives: [String: [Float]]
    /// Wall-clock time of scoring.
    public let seconds: Double
}

extension RewardReport {
    /// Several batches as one.
    init(concatenating parts: [RewardReport]) {
        self.init(
            reward: parts.flatMap(\.reward),
            objectives: Dictionary(
                uniqueKeysWithValues: (parts.first?.objectives.keys ?? [:].keys).map { name in
                    (name, parts.flatMap { $0.objectives[name]! })
                }),
            seconds: parts.reduce(0) { $0 + $1.seconds })
    }
}

/// Mixes one or several rewards into the one that is trained, and scores in the background while the caller goes on.
///
/// Batches are scored one after another, in the order of `submit`, whichever thread waits for them.
public final class RewardEvaluator: @unchecked Sendable {
    /// Changes whenever the mixed reward may.
    public let fingerprint: String
    /// Names of all objectives, in order.
    public let objectiveNames: [String]

    private struct Term {
        let reward: any Reward
        let prefix: String
        let trained: Int
        let factor: Float
    }

    private let terms: [Term]
    private let queue = DispatchQueue(label: "dag.rewards")
    private let counterLock = NSLock()
    private var counters = (calls: 0, images: 0)

    /// Throws `RewardError` if there is none, or a specification names an objective that its reward does not have.
    public init(_ rewards: [(RewardSpecification, any Reward)]) throws {
        guard !rewards.isEmpty else { throw RewardError("there is no reward; give at least one") }
        var uses: [String: Int] = [:]
        terms = try rewards.map { specification, reward in
            let names = reward.objectives.map(\.name)
            guard let trained = specification.objective.map(names.firstIndex(of:)) ?? 0, trained < names.count else {
                throw RewardError(
                    "reward \(reward.name) has no objective \(specification.objective ?? ""); it has \(names.joined(separator: ", "))")
            }
            uses[reward.name, default: 0] += 1
            let use = uses[reward.name]!
            return Term(
                reward: reward, prefix: use == 1 ? reward.name : "\(reward.name)#\(use)", trained: trained,
                factor: Float(specification.weight) * Float(reward.objectives[trained].direction.rawValue))
        }
        objectiveNames = terms.flatMap { term in term.reward.objectives.map { "\(term.prefix)/\($0.name)" } }
        fingerprint = terms.map { "\($0.factor) * \($0.reward.objectives[$0.trained].name) of \($0.reward.fingerprint)" }
            .joined(separator: " + ")
    }

    /// Looks up, loads and mixes plugins given as `LIB[,key=value...]`.
    public convenience init(plugins: [String], device: String = "cpu") throws {
        try self.init(
            plugins.map { text in
                let specification = try RewardSpecification(text)
                let library = try RewardLibrary(path: specification.path())
                return (specification, try RewardPlugin(library, options: specification.options, device: device))
            })
    }

    /// Batches scored so far.
    public var calls: Int { counterLock.withLock { counters.calls } }
    /// Pictures scored so far.
    public var imagesScored: Int { counterLock.withLock { counters.images } }

    /// Scores a batch and waits for it. Throws what a reward throws.
    public func score(_ batch: RewardBatch) throws -> RewardReport {
        try submit(batch).wait()
    }

    /// Scores a batch on a background thread.
    public func submit(_ batch: RewardBatch) -> PendingReward {
        let pending = PendingReward()
        queue.async {
            pending.finish(Result { try self.evaluate(batch) })
        }
        return pending
    }

    /// Has every reward answer for a few pictures before they are relied on: see `Reward.selfCheck`.
    public func selfCheck(images: ImageBatch, prompts: [String]? = nil) throws {
        for term in terms { try term.reward.selfCheck(images: images, prompts: prompts) }
    }

    private func evaluate(_ batch: RewardBatch) throws -> RewardReport {
        let start = DispatchTime.now().uptimeNanoseconds
        var mixed = [Float](repeating: 0, count: batch.count)
        var columns: [String: [Float]] = [:]
        for term in terms {
            let objectives = term.reward.objectives
            let values = try term.reward.score(batch).values
            for (index, objective) in objectives.enumerated() {
                let column = stride(from: index, to: values.count, by: objectives.count).map { values[$0] }
                columns["\(term.prefix)/\(objective.name)"] = column
                guard index == term.trained else { continue }
                for sample in mixed.indices { mixed[sample] += term.factor * column[sample] }
            }
        }
        counterLock.withLock {
            counters.calls += 1
            counters.images += batch.count
        }
        let seconds = Double(DispatchTime.now().uptimeNanoseconds - start) / 1e9
        return RewardReport(reward: mixed, objectives: columns, seconds: seconds)
    }
}

/// A batch that is being scored.
public final class PendingReward: @unchecked Sendable {
    private let group = DispatchGroup()
    /// Written once, before the group is left; read after it was waited for.
    private var result: Result<RewardReport, any Error>?

    fileprivate init() { group.enter() }

    fileprivate func finish(_ result: Result<RewardReport, any Error>) {
        self.result = result
        group.leave()
    }

    /// The report, as soon as there is one; may be called again. Throws what a reward threw.
    public func wait() throws -> RewardReport {
        group.wait()
        guard let result else { throw RewardError("a batch was not scored") }
        return try result.get()
    }
}
