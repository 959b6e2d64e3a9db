import Support

/// A reward's answer to a batch as the reward gave it: nothing about it is validated.
package struct RewardResult: Sendable, Equatable {
    /// `[count, objectives]`, row-major.
    package let values: [Float]
    /// Why samples could not be scored, by their place in the batch, in the reward's own words.
    package let reasons: [Int: String]

    /// - Parameters:
    ///   - values: `[count, objectives]`, row-major; those of a sample with a reason are ignored.
    ///   - reasons: why samples could not be scored, by their place in the batch.
    package init(values: [Float], reasons: [Int: String] = [:]) {
        self.values = values
        self.reasons = reasons
    }

    /// Joins the answers to several batches, in order.
    /// - Parameter counts: the samples of each.
    init(concatenating parts: [RewardResult], counts: [Int]) {
        var reasons: [Int: String] = [:]
        var offset = 0
        for (part, count) in zip(parts, counts) {
            for (sample, reason) in part.reasons { reasons[offset + sample] = reason }
            offset += count
        }
        values = parts.flatMap(\.values)
        self.reasons = reasons
    }
}

/// A reward's validated scores of a batch: each sample has a finite number for every objective, or NaN for
/// all of them and a reason.
package struct RewardScores: Sendable, Equatable {
    /// `[count, objectives]`, row-major; NaN in all columns of a sample that failed.
    package private(set) var values: [Float]
    /// Why samples have no scores, by their place in the batch: lines that name reward and sample.
    package private(set) var failures: [Int: String] = [:]
    private let objectives: Int

    /// Validates a result. A sample with a number that is not finite counts as one that failed.
    /// - Throws: `RewardError` that names the reward if there are too many or too few numbers.
    package init(_ result: RewardResult, of reward: some Reward, for batch: RewardBatch) throws {
        let names = reward.objectives.map(\.name)
        guard result.values.count == batch.count * names.count else {
            throw RewardError(
                "reward \(reward.name) gave \(result.values.count) scores for \(batch.count) samples; "
                    + "it must give \(names.count) for each")
        }
        values = result.values
        objectives = names.count
        for sample in 0..<batch.count {
            let row = sample * objectives..<(sample + 1) * objectives
            let unusable = row.first { !values[$0].isFinite }.map { index in
                Self.text(unusable: values[index], as: names[index - row.lowerBound])
            }
            guard let reason = result.reasons[sample] ?? unusable else { continue }
            fail(sample, "reward \(reward.name) cannot score sample \(batch.sampleIDs[sample]): \(reason)")
        }
    }

    /// Describes a score that is not finite.
    private static func text(unusable value: Float, as name: String) -> String {
        if value.isNaN { return "nan as \(name); scores must be finite" }
        let text = "\(value) as \(name); scores must be finite and fit 32 bits"
        return value > 0 ? text : text + " (for a target of zero return a floor, or have on_failure=impute:X assume one)"
    }

    /// Starts without scores: each sample is still to be given some by `take`, or a reason by `fail`.
    init(count: Int, objectives: Int) {
        values = Array(repeating: .nan, count: count * objectives)
        self.objectives = objectives
    }

    /// Takes the scores of a part of the batch.
    /// - Parameter places: where in the batch its samples are.
    mutating func take(_ part: RewardScores, at places: [Int]) {
        for (index, place) in places.enumerated() {
            failures[place] = part.failures[index]
            for column in 0..<objectives { values[place * objectives + column] = part.values[index * objectives + column] }
        }
    }

    /// Notes that a sample has no scores, and removes those that it may have.
    mutating func fail(_ place: Int, _ line: String) {
        failures[place] = line.oneLine
        for column in 0..<objectives { values[place * objectives + column] = .nan }
    }

    /// The reason of the first sample that failed.
    package var firstFailure: String? { failures.min { $0.key < $1.key }?.value }

    /// The scores of one objective, `[count]`.
    func column(_ objective: Int) -> [Float] { stride(from: objective, to: values.count, by: objectives).map { values[$0] } }
}
