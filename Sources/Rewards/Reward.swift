import Images
import Support

/// A black box that scores pictures. It may be called from any thread; calls that must not overlap it serialises itself.
public protocol Reward: AnyObject, Sendable {
    /// Lower-case words joined by `_`: a key in logs.
    var name: String { get }
    /// At least one; the first is trained if the user names none.
    var objectives: [RewardObjective] { get }
    /// Changes whenever the scores may: code, weights and settings.
    var fingerprint: String { get }
    /// Whether the same batch gets the same scores, and each sample the same in any batch but for rounding.
    var isDeterministic: Bool { get }
    /// Asks the reward about samples; its answer is not validated, `score` does that.
    /// - Throws: `RewardError` that says which reward failed on which samples and why, if it answers for none.
    func result(_ batch: RewardBatch) throws -> RewardResult
}

extension Reward {
    /// Rewards are deterministic unless they say otherwise.
    public var isDeterministic: Bool { true }

    /// Scores samples.
    /// - Throws: `RewardError` that says which reward failed on which samples and why, if it scores none.
    public func score(_ batch: RewardBatch) throws -> RewardScores { try RewardScores(result(batch), of: self, for: batch) }
}

/// One number that a reward gives each picture.
public struct RewardObjective: Sendable, Equatable, Codable {
    /// Whether more is better.
    public enum Direction: String, Sendable, Codable {
        case maximize, minimize

        /// 1 or -1: a reward is what is maximised.
        var sign: Float { self == .maximize ? 1 : -1 }
    }

    /// Name in logs and messages.
    public let name: String
    /// Whether more is better.
    public let direction: Direction
    /// One line, with unit and range.
    public let detail: String

    private enum CodingKeys: String, CodingKey {
        case name, direction
        case detail = "description"
    }

    /// - Parameter detail: one line with unit and range.
    public init(_ name: String, _ direction: Direction = .maximize, detail: String = "") {
        self.name = name
        self.direction = direction
        self.detail = detail
    }
}

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

/// What went wrong with a reward, in one line: which one, and what to do.
public struct RewardError: OneLineError {
    /// One line: the culprit and the remedy.
    public let description: String

    /// - Parameter description: a line that names the culprit; what a reward adds to it may be anything.
    public init(_ description: String) { self.description = description.oneLine }
}
