import Foundation
import Tensors

/// What the passes of one optimiser step add up to, for the metrics.
struct UpdateSums {
    private(set) var loss: [Float] = []
    private(set) var squaredResidual: [Float] = []
    private(set) var regularization: [Float] = []
    private(set) var ratios: [Float] = []
    /// Transitions that have no part in the update; scores of predicted data that were assumed; and why the first was.
    private(set) var droppedTransitions = 0
    private(set) var imputed = 0
    private(set) var firstFailure: String?
    var policyGradNorm = 0.0
    var flowGradNorm = 0.0

    /// Takes the numbers of one pass in, but for those of dropped transitions.
    mutating func add(_ pass: Trainer.Pass) throws {
        let transitions = pass.transitions
        let weights = try transitions.weight.array(Float.self)
        func kept(_ numbers: Tensor) throws -> [Float] {
            try zip(numbers.detach().array(Float.self), weights).compactMap { number, weight in weight > 0 ? number : nil }
        }
        loss += try kept(pass.loss)
        droppedTransitions += weights.count { $0 == 0 }
        imputed += pass.report?.imputed ?? 0
        firstFailure = firstFailure ?? pass.report?.firstFailure
        ratios += try kept(transitions.ratio)
        if let residual = transitions.residual(logForward: transitions.logForward.detach()) {
            squaredResidual += try kept(residual.square())
        }
        if let distance = pass.regularization { regularization += try kept(distance) }
    }

    /// Largest |rho - 1|.
    var ratioDeviation: Double { Double(ratios.reduce(0) { $1.isNaN ? .infinity : max($0, abs($1 - 1)) }) }

    /// One where the ratio is outside 1 +- range.
    func clipped(_ range: Double) -> [Float] { ratios.map { abs(Double($0) - 1) > range ? 1 : 0 } }

    /// The mean; zero of nothing.
    func mean(_ values: [Float]) -> Double { values.isEmpty ? 0 : values.reduce(0) { $0 + Double($1) } / Double(values.count) }
}
