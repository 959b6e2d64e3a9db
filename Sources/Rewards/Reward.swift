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
    /// Scores samples; throws `RewardError`, saying which reward failed on which samples and why, if it cannot score any.
    func score(_ batch: RewardBatch) throws -> RewardScores
}

extension Reward {
    /// Rewards are deterministic unless they say otherwise.
    public var isDeterministic: Bool { true }
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

/// A reward's answer: a finite number for each sample and objective, or the reason why there is none.
public struct RewardScores: Sendable, Equatable {
    /// `[count, objectives]`, row-major. Those of a sample that failed mean nothing.
    public let values: [Float]
    /// Why samples, by their place in the batch, could not be scored.
    public let failures: [Int: String]

    /// A sample with a score that is not finite is one that failed. Throws `RewardError`, naming the reward, if scores are too many or too few.
    public init(_ values: [Float], failures: [Int: String] = [:], of reward: some Reward, for batch: RewardBatch) throws {
        let objectives = reward.objectives
        guard values.count == batch.count * objectives.count else {
            throw RewardError(
                "reward \(reward.name) gave \(values.count) scores for \(batch.count) samples; "
                    + "it must give \(objectives.count) for each")
        }
        var failures = failures
        for (index, value) in values.enumerated() where !value.isFinite && failures[index / objectives.count] == nil {
            failures[index / objectives.count] =
                "\(value.isNaN ? "nan" : "\(value)") as \(objectives[index % objectives.count].name); scores must be finite"
        }
        self.values = values
        self.failures = failures.mapValues(\.oneLine)
    }

    /// The answer to several batches, in order.
    init(concatenating parts: [RewardScores], counts: [Int]) {
        var (failures, offset) = ([Int: String](), 0)
        for (part, count) in zip(parts, counts) {
            for (sample, reason) in part.failures { failures[offset + sample] = reason }
            offset += count
        }
        values = parts.flatMap(\.values)
        self.failures = failures
    }

    /// No scores, for one reason.
    init(failing count: Int, objectives: Int, because reason: String) {
        values = Array(repeating: .nan, count: count * objectives)
        failures = Dictionary(uniqueKeysWithValues: (0..<count).map { ($0, reason) })
    }
}

/// What went wrong with a reward, in one line: which one, and what to do.
public struct RewardError: Error, CustomStringConvertible {
    /// One line: the culprit and the remedy.
    public let description: String

    /// - Parameter description: a line that names the culprit; what a reward adds to it may be anything.
    public init(_ description: String) { self.description = description.oneLine }
}

/// A reward that is a Swift function, for embedding and tests.
public final class CallbackReward: Reward {
    /// Name in logs and messages.
    public let name: String
    /// What it scores, in the order of the scores.
    public let objectives: [RewardObjective]
    /// Changes whenever the scores may.
    public let fingerprint: String
    /// Whether equal pictures get equal scores.
    public let isDeterministic: Bool
    private let body: @Sendable (RewardBatch) throws -> [Float]

    /// - Parameters:
    ///   - fingerprint: what the scores depend on, for checkpoints.
    ///   - body: the scores `[count, objectives]` of a batch, row-major. May be called from any thread.
    public init(
        name: String, objectives: [RewardObjective] = [RewardObjective("score")], fingerprint: String = "",
        isDeterministic: Bool = true, body: @escaping @Sendable (RewardBatch) throws -> [Float]
    ) {
        self.name = name
        self.objectives = objectives
        self.fingerprint = fingerprint.isEmpty ? name : fingerprint
        self.isDeterministic = isDeterministic
        self.body = body
    }

    /// Calls the function. What it throws becomes a `RewardError`.
    public func score(_ batch: RewardBatch) throws -> RewardScores {
        do { return try RewardScores(body(batch), of: self, for: batch) } catch let error as RewardError { throw error } catch {
            throw RewardError("reward \(name) failed on \(batch.names()): \(error)")
        }
    }
}
