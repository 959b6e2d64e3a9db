import Images
import Support

/// A batch to score: `count` images and what is known about each.
package struct RewardBatch: Sendable {
    /// `count` images of one size.
    package let images: ImageBatch
    /// `[count]`; "" for an unconditional model.
    package let prompts: [Prompt]
    /// `[count]`: numbers of the trajectories, for messages. The images along one trajectory share one.
    package let sampleIDs: [UInt64]
    /// `[count]`, for rewards that draw random numbers.
    package let seeds: [UInt64]
    /// Whether the scores are still wanted. A reward that takes long may ask now and then, and throw if not.
    package internal(set) var isWanted: @Sendable () -> Bool = { true }
    /// How often it may be tried: a worker process that dies over it is replaced until then.
    var attempts = 2

    /// Number of images.
    package var count: Int { images.count }

    /// Returns a batch of some of the samples.
    /// - Parameter places: their places in this batch.
    func part(_ places: some Collection<Int>) throws -> RewardBatch {
        func pick<Element>(_ all: [Element]) -> [Element] { places.map { all[$0] } }
        var part = try RewardBatch(
            images: images.picking(places), prompts: pick(prompts), sampleIDs: pick(sampleIDs), seeds: pick(seeds))
        part.isWanted = isWanted
        part.attempts = attempts
        return part
    }

    /// Names samples in messages: `sample 3`, `samples 3 to 9`, or `4 samples from 3 to 9` if some between
    /// are not among them.
    /// - Parameter range: places in the batch; nil: all.
    func names(_ range: Range<Int>? = nil) -> String {
        let ids = Set(sampleIDs[range ?? 0..<count]).sorted()
        let first = ids[0]
        let last = ids[ids.count - 1]
        if first == last { return "sample \(first)" }
        return last - first == UInt64(ids.count - 1) ? "samples \(first) to \(last)" : "\(ids.count) samples from \(first) to \(last)"
    }

    /// - Throws: `RewardError` unless there is one of each for every image.
    package init(images: ImageBatch, prompts: [Prompt], sampleIDs: [UInt64], seeds: [UInt64]) throws {
        let counts = [prompts.count, sampleIDs.count, seeds.count]
        guard counts.allSatisfy({ $0 == images.count }) else {
            throw RewardError(
                "\(images.count) images came with \(counts[0]) prompts, \(counts[1]) sample ids and \(counts[2]) seeds; "
                    + "give one of each for every image")
        }
        self.images = images
        self.prompts = prompts
        self.sampleIDs = sampleIDs
        self.seeds = seeds
    }
}
