/// A reward that is a Swift function, for tests and benchmarks.
package final class CallbackReward: Reward {
    /// Name in logs and messages.
    package let name: String
    /// The numbers that it gives each image, in the order of the scores.
    package let objectives: [RewardObjective]
    /// Changes whenever the scores may.
    package let fingerprint: String
    /// Whether equal images get equal scores.
    package let isDeterministic: Bool
    private let body: @Sendable (RewardBatch) throws -> [Float]

    /// - Parameters:
    ///   - fingerprint: text that changes whenever the scores may; "": the name.
    ///   - body: returns the scores `[count, objectives]` of a batch, row-major. May be called from any
    ///     thread.
    package init(
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
    /// - Throws: `RewardError`, also in place of another error of the function's.
    package func result(_ batch: RewardBatch) throws -> RewardResult {
        do { return RewardResult(values: try body(batch)) } catch let error as RewardError { throw error } catch {
            throw RewardError("reward \(name) failed on \(batch.names()): \(error)")
        }
    }
}
