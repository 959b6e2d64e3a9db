import Support

/// A black box that scores images. It may be called from any thread, and serialises calls that must not
/// overlap.
package protocol Reward: AnyObject, Sendable {
    /// The name in logs and messages: lower-case words joined by `_`.
    var name: String { get }
    /// The numbers that it gives each image, in the order of the scores; at least one. The first is trained
    /// if the user names none.
    var objectives: [RewardObjective] { get }
    /// Changes whenever the scores may: code, weights and settings.
    var fingerprint: String { get }
    /// Whether the same batch gets the same scores, and each sample the same in any batch but for rounding.
    var isDeterministic: Bool { get }
    /// Asks the reward about samples; its answer is not validated, `score` does that.
    /// - Throws: `RewardError` that says which reward failed on which samples and why, if it answers for
    ///   none.
    func result(_ batch: RewardBatch) throws -> RewardResult
}

extension Reward {
    /// Rewards are deterministic unless they say otherwise.
    package var isDeterministic: Bool { true }

    /// Scores samples.
    /// - Throws: `RewardError` that says which reward failed on which samples and why, if it scores none.
    package func score(_ batch: RewardBatch) throws -> RewardScores { try RewardScores(result(batch), of: self, for: batch) }
}

/// An error of a reward, in one line: which reward, and what to do.
package struct RewardError: OneLineError {
    /// One line: the culprit and the remedy.
    package let description: String

    /// - Parameter description: names the culprit and the remedy; line ends and control characters, perhaps
    ///   of a reward, become spaces.
    package init(_ description: String) { self.description = description.oneLine }
}
