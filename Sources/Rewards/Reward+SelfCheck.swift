import Images

extension Reward {
    /// Scores a few pictures to see that the reward answers sanely, so that a run does not fail, or learn nonsense, hours later.
    ///
    /// All scores must be there and finite. A reward that calls itself deterministic must score the batch the same again, and each
    /// sample the same in reversed order to within 0.1% (the place in a batch changes rounding): one that mixes samples up does not.
    /// Throws `RewardError` that says what to mend.
    ///
    /// - Parameter prompts: one for each picture; nil: "a thing" for all.
    public func selfCheck(images: ImageBatch, prompts: [String]? = nil) throws {
        let ids = (0..<UInt64(images.count)).map { $0 }
        let prompts = prompts ?? Array(repeating: "a thing", count: images.count)
        let batch = try RewardBatch(images: images, prompts: prompts, sampleIDs: ids, seeds: ids)
        func values(_ batch: RewardBatch) throws -> [Float] {
            let scores = try score(batch)
            if let (sample, reason) = scores.failures.min(by: { $0.key < $1.key }) {
                throw RewardError("reward \(name) cannot score sample \(batch.sampleIDs[sample]): \(reason)")
            }
            return scores.values
        }
        let first = try values(batch)
        guard isDeterministic else { return }
        guard try values(batch) == first else {
            throw RewardError(
                "reward \(name) calls itself deterministic but scored the same pictures differently; fix its seeds or drop the claim")
        }
        let reversedImages = try ImageBatch(
            pixels: (0..<images.count).reversed().flatMap { images[$0] }, count: images.count, height: images.height, width: images.width)
        let reversed = try values(
            RewardBatch(images: reversedImages, prompts: prompts.reversed(), sampleIDs: ids.reversed(), seeds: ids.reversed()))
        for sample in 0..<images.count {
            for (index, objective) in objectives.enumerated() {
                let there = first[sample * objectives.count + index]
                let back = reversed[(images.count - 1 - sample) * objectives.count + index]
                guard abs(there - back) <= 1e-3 * max(1, abs(there)) else {
                    throw RewardError(
                        "reward \(name) gave sample \(sample) \(there) as \(objective.name), but \(back) with the batch reversed; "
                            + "a sample's score must not depend on the others")
                }
            }
        }
    }
}
