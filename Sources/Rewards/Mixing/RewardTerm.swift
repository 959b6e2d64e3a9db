import Foundation

/// One reward of a mixture, with its weight, its trained objective and its failure policy.
struct RewardTerm: Sendable {
    let specification: RewardSpecification
    let reward: any Reward
    /// Names of all its objectives, such as `warmth/red`.
    let names: [String]
    /// Index of the trained objective.
    let trained: Int
    /// The weight, negated for an objective that is minimised.
    let factor: Float
    private let limit: ScoreLimit
    private let faultFinder: FaultFinder

    /// - Parameters:
    ///   - prefix: stands before the names of the objectives.
    ///   - limit: what a part of the sum over rewards has to keep to.
    /// - Throws: `RewardError` if the specification names an objective that the reward does not have, or if a
    ///   normalised or assumed score could be beyond the limit.
    init(_ specification: RewardSpecification, _ reward: any Reward, prefix: String, limit: ScoreLimit) throws {
        let own = reward.objectives.map(\.name)
        guard let trained = specification.objective.map(own.firstIndex(of:)) ?? 0, trained < own.count else {
            throw RewardError(
                "reward \(reward.name) has no objective \(specification.objective ?? ""); it has \(own.joined(separator: ", "))")
        }
        self.specification = specification
        self.reward = reward
        self.trained = trained
        self.limit = limit
        faultFinder = FaultFinder(timeout: specification.timeout)
        names = own.map { "\(prefix)/\($0)" }
        factor = Float(specification.weight) * reward.objectives[trained].direction.sign
        var assumed: Float?
        if case .impute(let score) = specification.onFailure { assumed = score }
        if let most = specification.normalize ? RunningMoments.bound : assumed, let problem = problem(most) {
            throw RewardError("reward \(reward.name): \(problem); lower \(limit.remedy)")
        }
    }

    /// The trained objective's name, such as `warmth/red`.
    var trainedName: String { names[trained] }

    /// Whether the reward is watched and not trained on.
    var isHeldOut: Bool { factor == 0 }

    /// Text that changes whenever the reward or its use in the mixture does.
    var fingerprint: String {
        let normalized = specification.normalize ? "normalized " : ""
        return "\(factor) * \(normalized)\(reward.objectives[trained].name) of \(reward.fingerprint)"
    }

    /// Scores a batch. A sample whose part of the sum is beyond the limit counts as one that failed.
    /// - Throws: `RewardError` if that fails, or if a sample does and the policy is to fail.
    func score(_ batch: RewardBatch) throws -> RewardScores {
        var scores = specification.onFailure == .fail ? try reward.score(batch) : try faultFinder.score(batch, by: reward)
        for (sample, value) in scores.column(trained).enumerated() where !specification.normalize {
            guard let problem = problem(value) else { continue }
            let line = "reward \(reward.name) cannot score sample \(batch.sampleIDs[sample]): \(problem)"
            scores.fail(sample, "\(line); return smaller scores, or lower \(limit.remedy)")
        }
        if specification.onFailure == .fail, let failure = scores.firstFailure { throw RewardError(failure) }
        return scores
    }

    /// Returns why a score of the trained objective, normalised or not, cannot be used; nil: it can, or it is
    /// NaN.
    private func problem(_ score: Float) -> String? {
        guard !isHeldOut, (factor * score).magnitude > limit.largest else { return nil }
        let weight = String(format: "weight %g", specification.weight)
        return "\(score) as \(reward.objectives[trained].name) is too large for float32 with \(weight)\(limit.cause)"
    }

    /// The trained objective, `[count]`: where it could not be scored the number that the policy assumes, or
    /// NaN.
    func trained(_ scores: RewardScores) -> [Float] {
        var column = scores.column(trained)
        if case .impute(let assumed) = specification.onFailure { for sample in scores.failures.keys { column[sample] = assumed } }
        return column
    }

    /// How many numbers are assumed.
    func imputed(_ scores: RewardScores) -> Int { if case .impute = specification.onFailure { scores.failures.count } else { 0 } }
}
