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
    private let faultFinder: FaultFinder

    /// - Parameter prefix: stands before the names of the objectives.
    /// - Throws: `RewardError` if the specification names an objective that the reward does not have.
    init(_ specification: RewardSpecification, _ reward: any Reward, prefix: String) throws {
        let own = reward.objectives.map(\.name)
        guard let trained = specification.objective.map(own.firstIndex(of:)) ?? 0, trained < own.count else {
            throw RewardError(
                "reward \(reward.name) has no objective \(specification.objective ?? ""); it has \(own.joined(separator: ", "))")
        }
        self.specification = specification
        self.reward = reward
        self.trained = trained
        faultFinder = FaultFinder(timeout: specification.timeout)
        names = own.map { "\(prefix)/\($0)" }
        factor = Float(specification.weight) * reward.objectives[trained].direction.sign
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

    /// Scores a batch.
    /// - Throws: `RewardError` if that fails, or if a sample does and the policy is to fail.
    func score(_ batch: RewardBatch) throws -> RewardScores {
        guard specification.onFailure == .fail else { return try faultFinder.score(batch, by: reward) }
        let scores = try reward.score(batch)
        if let failure = scores.firstFailure { throw RewardError(failure) }
        return scores
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
