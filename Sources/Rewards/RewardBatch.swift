import Images

/// What is to be scored: `count` pictures and what is known about each.
public struct RewardBatch: Sendable {
    /// The pictures.
    public let images: ImageBatch
    /// `[count]`; "" for an unconditional model.
    public let prompts: [String]
    /// The trajectories' numbers, for messages: pictures along one trajectory share one.
    public let sampleIDs: [UInt64]
    /// `[count]`, for rewards that draw random numbers.
    public let seeds: [UInt64]
    /// `[count]` JSON objects.
    public let metadata: [String]
    /// Whether anybody still waits for the scores. A reward that takes long may ask now and then, and throw if nobody does.
    public internal(set) var isWanted: @Sendable () -> Bool = { true }
    /// How many processes may die over it before that is an error.
    var attempts = 2

    /// Number of pictures.
    public var count: Int { images.count }

    /// Some of its samples, by their places.
    func part(_ places: some Collection<Int>) throws -> RewardBatch {
        func pick<Element>(_ all: [Element]) -> [Element] { places.map { all[$0] } }
        var part = try RewardBatch(
            images: images.picking(places), prompts: pick(prompts), sampleIDs: pick(sampleIDs), seeds: pick(seeds), metadata: pick(metadata)
        )
        (part.isWanted, part.attempts) = (isWanted, attempts)
        return part
    }

    /// Its samples in messages: `sample 3`, `samples 3 to 9`, or `4 samples from 3 to 9` if some between are not among them.
    func names(_ range: Range<Int>? = nil) -> String {
        let ids = Set(sampleIDs[range ?? 0..<count]).sorted()
        let (first, last) = (ids[0], ids[ids.count - 1])
        if first == last { return "sample \(first)" }
        return last - first == UInt64(ids.count - 1) ? "samples \(first) to \(last)" : "\(ids.count) samples from \(first) to \(last)"
    }

    /// Throws `RewardError` unless all have one entry a picture. `metadata` may be empty: no sample has any then.
    public init(
        images: ImageBatch, prompts: [String], sampleIDs: [UInt64], seeds: [UInt64], metadata: [String] = []
    ) throws {
        let metadata = metadata.isEmpty ? Array(repeating: "{}", count: images.count) : metadata
        let counts = [prompts.count, sampleIDs.count, seeds.count, metadata.count]
        guard counts.allSatisfy({ $0 == images.count }) else {
            throw RewardError(
                "\(images.count) pictures came with \(counts[0]) prompts, \(counts[1]) sample ids, \(counts[2]) seeds "
                    + "and \(counts[3]) metadata objects; give one of each a picture")
        }
        self.images = images
        self.prompts = prompts
        self.sampleIDs = sampleIDs
        self.seeds = seeds
        self.metadata = metadata
    }
}
