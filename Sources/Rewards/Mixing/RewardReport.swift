/// The scores of a batch by all rewards of a mixture.
package struct RewardReport: Sendable, Codable {
    /// `[count]`: the sum over rewards of weight times trained objective, where a minimised objective is
    /// negated. Larger is better. NaN for a sample that is dropped.
    package let reward: [Float]
    /// Every objective of every reward that was asked, as it was given, in the order of
    /// `RewardEvaluator.objectiveNames`.
    package let objectives: [ObjectiveScores]
    /// How many numbers were assumed for samples that a reward could not score.
    package let imputed: Int
    /// Why samples have no score of some reward, by their place in the batch: lines that name reward and
    /// sample.
    package let failures: [Int: String]
}

extension RewardReport {
    /// The reason of the first sample that a reward could not score.
    package var firstFailure: String? { failures.min { $0.key < $1.key }?.value }

    /// Joins the reports of several batches, all by the same rewards.
    package init(concatenating parts: [RewardReport]) {
        var failures: [Int: String] = [:]
        var offset = 0
        for part in parts {
            for (place, reason) in part.failures { failures[offset + place] = reason }
            offset += part.reward.count
        }
        self.init(
            reward: parts.flatMap(\.reward),
            objectives: (parts.first?.objectives ?? []).enumerated().map { index, objective in
                ObjectiveScores(objective.name, parts.flatMap { $0.objectives[index].scores })
            },
            imputed: parts.reduce(0) { $0 + $1.imputed }, failures: failures)
    }
}
