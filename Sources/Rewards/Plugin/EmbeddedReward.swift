import CDAGCore

/// A reward that is a function of the program that embeds the trainer: see `dag_callback` in `dagcore.h`.
public final class EmbeddedReward: Reward, @unchecked Sendable {
    /// Scores a batch, as `dag_reward.h` describes it; never throws.
    public typealias Score = (
        UnsafePointer<dag_reward_batch>, UnsafePointer<dag_reward_result>, UnsafeMutablePointer<dag_reward_error>
    ) -> Int32

    /// Name in logs and messages.
    public let name: String
    /// What it scores, in the order of the scores.
    public let objectives: [RewardObjective]
    /// What the program says that the scores depend on.
    public let fingerprint: String
    /// Whether equal pictures get equal scores.
    public let isDeterministic: Bool
    private let function: ScoreFunction
    /// What the settings of `dag_callback` say of its use.
    public let specification: RewardSpecification

    /// Copies what a callback says of itself. Throws `RewardError` if that is not as `dagcore.h` asks.
    /// - Parameter score: calls the callback's function.
    public init(_ callback: dag_callback, score: @escaping Score) throws {
        let reader = TableReader(subject: "a callback")
        name = try reader.text(callback.name, "name")
        objectives =
            callback.objective_count == 0
            ? [RewardObjective("score")] : try reader.objectives(callback.objectives, callback.objective_count)
        for name in [name] + objectives.map(\.name) where !RewardDescription.isName(name) {
            throw RewardError("callback \(self.name): the name `\(name)` is not lower-case words joined by _")
        }
        fingerprint = "\(name) callback " + (callback.fingerprint.map { String(cString: $0) } ?? "")
        isDeterministic = callback.flags & UInt32(DAG_REWARD_DETERMINISTIC) != 0
        function = ScoreFunction(largestBatch: Int(callback.largest_batch), timeout: nil, function: score)

        let settings = callback.settings.map { String(cString: $0) } ?? ""
        specification = try RewardSpecification(settings.isEmpty ? name : "\(name),\(settings)")
        var usable = RewardSpecification(library: name, weight: specification.weight, objective: specification.objective)
        (usable.normalize, usable.onFailure) = (specification.normalize, specification.onFailure)
        guard specification == usable else {
            throw RewardError("callback \(name): settings=\(settings): a callback knows weight, objective, normalize and on_failure")
        }
    }

    /// Calls the function, in parts of its largest batch.
    public func result(_ batch: RewardBatch) throws -> RewardResult { try function.result(batch, of: self) }
}
