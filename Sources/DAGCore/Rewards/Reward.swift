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
    /// Scores every sample, or throws an error that says which reward failed, on which sample, and why.
    func score(_ batch: RewardBatch) throws -> RewardScores
}

extension Reward {
    /// Rewards are deterministic unless they say otherwise.
    public var isDeterministic: Bool { true }
}

/// One number that a reward gives each picture.
public struct RewardObjective: Sendable, Equatable {
    /// Whether more is better.
    public enum Direction: Int, Sendable {
        case maximize = 1
        case minimize = -1
    }

    /// Name in logs and messages.
    public let name: String
    /// Whether more is better.
    public let direction: Direction
    /// One line, with unit and range.
    public let detail: String

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

    /// Number of pictures.
    public var count: Int { images.count }

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

/// A reward's answer: one finite number for each sample and objective.
public struct RewardScores: Sendable, Equatable {
    /// `[count, objectives]`, row-major.
    public let values: [Float]

    /// Throws `RewardError`, naming reward and sample, if a score is missing or not finite.
    public init(_ values: [Float], of reward: some Reward, for batch: RewardBatch) throws {
        let objectives = reward.objectives
        guard values.count == batch.count * objectives.count else {
            throw RewardError(
                "reward \(reward.name) gave \(values.count) scores for \(batch.count) samples; "
                    + "it must give \(objectives.count) for each")
        }
        if let bad = values.firstIndex(where: { !$0.isFinite }) {
            throw RewardError(
                "reward \(reward.name) gave \(values[bad]) as \(objectives[bad % objectives.count].name) "
                    + "of sample \(batch.sampleIDs[bad / objectives.count]); scores must be finite")
        }
        self.values = values
    }
}

/// What went wrong with a reward, in one line: which one, and what to do.
public struct RewardError: Error, CustomStringConvertible {
    /// One line: the culprit and the remedy.
    public let description: String

    /// - Parameter description: one line that names the culprit.
    public init(_ description: String) { self.description = description }
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

    /// Calls the function.
    public func score(_ batch: RewardBatch) throws -> RewardScores {
        try RewardScores(body(batch), of: self, for: batch)
    }
}
