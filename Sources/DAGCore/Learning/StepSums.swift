import Tensors

/// The numbers of one optimiser step, added up over its passes, for the metrics.
struct StepSums: Codable {
    /// The loss of each transition that counts.
    private(set) var loss: [Float] = []
    /// The algorithm's numbers of the same transitions, by their keys in metrics.jsonl.
    private(set) var metrics: [String: [Float]] = [:]
    /// Largest |rho - 1|; nil where there are no ratios.
    private(set) var ratioDeviation: Double?
    /// Transitions without a score, which have no part in the update.
    private(set) var droppedTransitions = 0
    /// Scores of predicted data that were assumed, and the reason for the first.
    private(set) var imputed = 0
    private(set) var firstFailure: String?
    /// Gradient norms before clipping; nil for a network that the step does not train.
    var policyGradNorm, flowGradNorm: Double?

    init() {}

    /// Joins the numbers of all ranks, in the order of their groups.
    init(concatenating parts: [StepSums]) {
        loss = parts.flatMap(\.loss)
        for part in parts { metrics.merge(part.metrics) { $0 + $1 } }
        ratioDeviation = parts.compactMap(\.ratioDeviation).max()
        droppedTransitions = parts.reduce(0) { $0 + $1.droppedTransitions }
        imputed = parts.reduce(0) { $0 + $1.imputed }
        firstFailure = parts.lazy.compactMap(\.firstFailure).first
    }

    /// Adds the numbers of one pass, without those of dropped transitions.
    /// - Throws: `TensorError`.
    mutating func add(_ pass: Learner.Pass) throws {
        let weights = try pass.transitions.weight.array(Float.self)
        func kept(_ numbers: [Float]) -> [Float] { zip(numbers, weights).compactMap { $1 > 0 ? $0 : nil } }
        loss += kept(try pass.weightedLoss.detach().array())
        for (key, numbers) in pass.metrics { metrics[key, default: []] += kept(numbers) }
        for ratio in kept(try pass.transitions.ratio.detach().array()) {
            ratioDeviation = ratio.isNaN ? .infinity : max(ratioDeviation ?? 0, Double(abs(ratio - 1)))
        }
        droppedTransitions += weights.count { $0 == 0 }
        imputed += pass.report?.imputed ?? 0
        firstFailure = firstFailure ?? pass.report?.firstFailure
    }

    /// Adds the numbers of noised images.
    mutating func add(_ losses: [Float], _ numbers: [String: [Float]]) {
        loss += losses
        metrics.merge(numbers) { $0 + $1 }
    }

    /// Returns the mean; zero if there are no numbers.
    func mean(_ values: [Float]) -> Double { values.isEmpty ? 0 : values.reduce(0) { $0 + Double($1) } / Double(values.count) }
}
