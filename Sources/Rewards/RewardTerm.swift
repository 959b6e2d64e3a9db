import Images

/// One reward of a mixture: its weight, which objective is trained, and what becomes of samples that it cannot score.
struct RewardTerm: Sendable {
    let specification: RewardSpecification
    let reward: any Reward
    /// Of all its objectives, such as `warmth/red`.
    let names: [String]
    /// Index of the trained objective.
    let trained: Int
    private let salvage: Salvage
    /// Weight and direction. 0: held out, which is to say watched and not trained on.
    let factor: Float
    var isHeldOut: Bool { factor == 0 }

    /// Throws `RewardError` if the specification names an objective that the reward does not have.
    init(_ specification: RewardSpecification, _ reward: any Reward, prefix: String) throws {
        let own = reward.objectives.map(\.name)
        guard let trained = specification.objective.map(own.firstIndex(of:)) ?? 0, trained < own.count else {
            throw RewardError(
                "reward \(reward.name) has no objective \(specification.objective ?? ""); it has \(own.joined(separator: ", "))")
        }
        (self.specification, self.reward, self.trained) = (specification, reward, trained)
        salvage = Salvage(timeout: specification.timeout)
        names = own.map { "\(prefix)/\($0)" }
        factor = Float(specification.weight) * reward.objectives[trained].direction.sign
    }

    var fingerprint: String {
        let normalized = specification.normalize ? "normalized " : ""
        return "\(factor) * \(normalized)\(reward.objectives[trained].name) of \(reward.fingerprint)"
    }

    /// Scores of a batch after the failure policy.
    struct Answer: Sendable {
        /// `[objectives][count]`; NaN where there is none.
        let columns: [[Float]]
        /// `[count]`: the trained objective, NaN for a sample to drop.
        let trained: [Float]
        let imputed: Int
        /// Why samples have no scores: as in `RewardReport`.
        let failures: [Int: String]
    }

    /// Scores a batch. Throws `RewardError` if that fails, or if samples do and the policy is to fail.
    func score(_ batch: RewardBatch) throws -> Answer {
        let found = try find(batch)
        let objectives = reward.objectives.count
        let columns = (0..<objectives).map { index in
            stride(from: index, to: found.values.count, by: objectives).map { found.values[$0] }
        }
        var values = columns[trained]
        var imputed = 0
        if case .impute(let value) = specification.onFailure {
            for sample in found.failures.keys { values[sample] = value }
            imputed = found.failures.count
        }
        return Answer(columns: columns, trained: values, imputed: imputed, failures: found.failures)
    }

    /// Sees that the reward answers sanely, if it can for these pictures: see `Reward.selfCheck`.
    /// - Returns: a line if it has no scores for some of them and the policy is to go on without. Throws `RewardError` if it has for none.
    func selfCheck(images: ImageBatch, prompts: [String]?, _ isWanted: @escaping @Sendable () -> Bool) throws -> String? {
        var missing: String?
        try reward.selfCheck(images: images, prompts: prompts) { batch in
            var batch = batch
            batch.isWanted = isWanted
            let found = try find(batch)
            if let first = found.failures.min(by: { $0.key < $1.key }) {
                let what = "\(found.failures.count) of \(batch.count) pictures of the self-check cannot be scored: \(first.value)"
                guard found.failures.count < batch.count else { throw RewardError(what) }
                missing = missing ?? what
            }
            return found.values
        }
        return missing
    }

    /// What a reward says of a batch, sample by sample. Throws `RewardError` if that ends the run by the policy.
    private func find(_ batch: RewardBatch) throws -> Findings {
        guard specification.onFailure == .fail else { return try salvage.find(batch, reward) }
        var found = Findings(batch, reward)
        found.take(try reward.score(batch), for: Array(0..<batch.count))
        if let first = found.failures.min(by: { $0.key < $1.key }) { throw RewardError(first.value) }
        return found
    }
}
