import Foundation

/// One reward of a mixture: its weight, which objective is trained, and what becomes of samples that it cannot score.
struct RewardTerm: Sendable {
    let specification: RewardSpecification
    let reward: any Reward
    /// Of all its objectives, such as `warmth/red`.
    let names: [String]
    /// Index of the trained objective.
    let trained: Int
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
        let firstFailure: String?
    }

    /// Scores a batch. Throws `RewardError` if that fails, or if samples do and the policy is to fail.
    func score(_ batch: RewardBatch) throws -> Answer {
        let scores = try attempt(batch)
        let objectives = reward.objectives.count
        var columns = (0..<objectives).map { index in
            stride(from: index, to: scores.values.count, by: objectives).map { scores.values[$0] }
        }
        for sample in scores.failures.keys { for index in columns.indices { columns[index][sample] = .nan } }
        let firstFailure = scores.failures.min { $0.key < $1.key }.map { sample, reason in
            // A reason that is the reward's own error names itself.
            reason.hasPrefix("reward ") ? reason : "reward \(reward.name) cannot score sample \(batch.sampleIDs[sample]): \(reason)"
        }
        var values = columns[trained]
        var imputed = 0
        switch specification.onFailure {
        case .fail: if let firstFailure { throw RewardError(firstFailure) }
        case .drop: break
        case .impute(let value):
            for sample in scores.failures.keys { values[sample] = value }
            imputed = scores.failures.count
        }
        return Answer(columns: columns, trained: values, imputed: imputed, firstFailure: firstFailure)
    }

    /// Scores a batch; where the run is to go on without the samples that cannot be scored, finds out which those are.
    private func attempt(_ batch: RewardBatch) throws -> RewardScores {
        do {
            return try reward.score(batch)
        } catch let error as RewardError where specification.onFailure != .fail {
            return try salvage(batch, error)
        }
    }

    /// Halves a batch that failed as a whole, and the halves that fail, again and again. Two pictures at fault are found whatever the batch;
    /// what still fails after so many calls is given up.
    private func salvage(_ batch: RewardBatch, _ error: RewardError) throws -> RewardScores {
        var calls = 4 * Int(log2(Double(batch.count)).rounded(.up)) + 8
        var failing = [(range: 0..<batch.count, error: error)]
        var done: [(range: Range<Int>, scores: RewardScores)] = []
        while !failing.isEmpty {
            let (range, error) = failing.removeFirst()
            guard range.count > 1, calls > 0 else {
                done.append((range, RewardScores(failing: range.count, objectives: reward.objectives.count, because: error.description)))
                continue
            }
            let middle = range.lowerBound + range.count / 2
            for half in [range.lowerBound..<middle, middle..<range.upperBound] {
                calls -= 1
                do { done.append((half, try reward.score(batch.part(half)))) } catch let error as RewardError {
                    failing.append((half, error))
                }
            }
        }
        done.sort { $0.range.lowerBound < $1.range.lowerBound }
        return RewardScores(concatenating: done.map(\.scores), counts: done.map(\.range.count))
    }
}
