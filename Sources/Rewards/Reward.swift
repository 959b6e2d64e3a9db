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

/// What went wrong with a reward, in one line: which one, and what to do.
public struct RewardError: OneLineError {
    /// One line: the culprit and the remedy.
    public let description: String

    /// - Parameter description: a line that names the culprit; what a reward adds to it may be anything.
    public init(_ description: String) { self.description = description.oneLine }
}
