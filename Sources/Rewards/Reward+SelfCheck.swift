import Images
import Support

extension Reward {
    /// Scores a few images to see that the reward answers sanely, so that a run does not fail, or learn
    /// nonsense, hours later.
    ///
    /// All scores must be there and finite. A reward that calls itself deterministic must score the batch the
    /// same again, and each sample the same in reversed order, both but for rounding (`ScoreTolerance`): one
    /// that mixes samples up does not.
    /// - Parameter prompts: one for each image; nil: "a thing" for all.
    /// - Throws: `RewardError` that says what to mend.
    package func selfCheck(images: ImageBatch, prompts: [Prompt]? = nil) throws {
        try selfCheck(images: images, prompts: prompts) { batch in
            let scores = try score(batch)
            if let failure = scores.firstFailure { throw RewardError(failure) }
            return scores.values
        }
    }

    /// Does the same with scores from a function.
    /// - Parameter scores: returns `[count, objectives]`, row-major; NaN for a sample without scores, which
    ///   is compared with nothing.
    func selfCheck(images: ImageBatch, prompts: [Prompt]?, scores: (RewardBatch) throws -> [Float]) throws {
        let ids = (0..<UInt64(images.count)).map { $0 }
        let prompts = prompts ?? Array(repeating: "a thing", count: images.count)
        let batch = try RewardBatch(images: images, prompts: prompts, sampleIDs: ids, seeds: ids)
        let first = try scores(batch)
        guard isDeterministic else { return }
        let count = objectives.count
        let tolerance = ScoreTolerance(first, objectives: count)
        guard try tolerance.firstDifference(first, scores(batch)) == nil else {
            throw RewardError(
                "reward \(name) calls itself deterministic but scored the same images differently; fix its seeds or drop the claim")
        }
        let reversed = try scores(batch.part((0..<images.count).reversed()))
        let back = (0..<images.count).reversed().flatMap { reversed[$0 * count..<($0 + 1) * count] }
        if let index = tolerance.firstDifference(first, back) {
            throw RewardError(
                "reward \(name) gave sample \(index / count) \(first[index]) as \(objectives[index % count].name), but \(back[index]) "
                    + "with the batch reversed; a sample's score must not depend on the others")
        }
    }
}
