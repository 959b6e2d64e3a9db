import CDAGCore
import Rewards

/// A reward that calls a function of the embedding program: see `dag_callback` in `dagcore.h`.
final class EmbeddedReward: Reward, @unchecked Sendable {
    let name: String
    let objectives: [RewardObjective]
    let fingerprint: String
    let isDeterministic: Bool
    private let function: ScoreFunction
    /// The reward's use in training, from the settings of `dag_callback`.
    let specification: RewardSpecification

    /// Copies the description of a callback.
    /// - Parameter score: calls the callback's function.
    /// - Throws: `RewardError` if the description breaks the rules of `dagcore.h`.
    init(_ callback: dag_callback, score: @escaping ScoreFunction.Function) throws {
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
        usable.normalize = specification.normalize
        usable.onFailure = specification.onFailure
        guard specification == usable else {
            throw RewardError("callback \(name): settings=\(settings): a callback knows weight, objective, normalize and on_failure")
        }
    }

    /// Calls the function, with at most its largest batch at once.
    func result(_ batch: RewardBatch) throws -> RewardResult { try function.result(batch, of: self) }
}
