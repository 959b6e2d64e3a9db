import Foundation

/// The largest part that one reward may have in the sum over rewards, so that all that is computed of the sum
/// in float32 is finite.
struct ScoreLimit: Sendable {
    /// Magnitude of weight times score.
    let largest: Float
    /// The factor beside the weight, and the settings that lower the product, for messages.
    let cause, remedy: String

    /// Largest magnitude of beta s. Its square and the gradients of that, which are squared once more for their
    /// norm, stay far below the largest float32, 3e38.
    private static let largestProduct = 1e15

    /// - Parameters:
    ///   - beta: as for `RewardEvaluator`.
    ///   - terms: rewards in the sum.
    init(beta: Double?, terms: Int) {
        let most = Double(Float.greatestFiniteMagnitude)
        largest = Float(min(most, beta.map { Self.largestProduct / $0 } ?? most) / Double(terms))
        cause = beta.map { String(format: " and beta %g", $0) } ?? ""
        remedy = beta == nil ? "the weight" : "the weight or beta"
    }
}
