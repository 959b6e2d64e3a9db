import Foundation
import Tensors

/// Trajectory balance (Malkin et al. 2022) and sub-trajectory balance (Madan et al. 2023),
/// with the memory of one transition.
///
///     L = sum over i < j of w_ij S_ij^2,  S_ij = delta_i + ... + delta_(j-1)
///     w_ij = lambda^(j - i) / (sum of all lambda^(j - i));  trajectory balance: only w_0T = 1
///
/// The residuals' sums telescope: S_ij compares the flow at two states with the kernels between them, and
/// S_0T the flow at the start with the score at the end. No graph over several transitions is needed, since
///
///     grad L = sum over t of c_t grad delta_t,  c_t = sum over i <= t < j of 2 w_ij S_ij,
///
/// so the numbers c_t are computed first, without a graph, and each transition then contributes by itself. As
/// lambda goes to 0, only single transitions are left: detailed balance.
final class TrajectoryBalance: TransitionAlgorithm {
    private let flow: any FlowNetwork
    /// nil: only whole trajectories.
    private let lambda: Double?
    /// The balances of the step under way, by trajectory.
    private var balances: [Int: (loss: Float, slopes: [Float])] = [:]
    var trainedFlow: (any FlowNetwork)? { flow }

    init(flow: any FlowNetwork, lambda: Double?) {
        self.flow = flow
        self.lambda = lambda
    }

    func prepareStep(_ trajectories: [Int], forEachPass: ((Transitions) throws -> Void) throws -> Void) throws {
        var residuals: [Int: [Int: Float]] = [:]
        try forEachPass { transitions in
            let values = try transitions.residual(flow, logForward: transitions.logForward).array(Float.self)
            for (k, value) in values.enumerated() { residuals[transitions.trajectories[k], default: [:]][transitions.steps[k]] = value }
        }
        balances = residuals.mapValues { steps in Self.balance(steps.sorted { $0.key < $1.key }.map(\.value), lambda: lambda) }
    }

    func loss(_ transitions: Transitions) throws -> Loss {
        let residual = transitions.residual(flow, logForward: transitions.logForward)
        let places = zip(transitions.trajectories, transitions.steps)
        let loss = Tensor(transitions.trajectories.map { balances[$0]!.loss }, device: residual.device)
        let slope = Tensor(places.map { balances[$0]!.slopes[$1] }, device: residual.device)
        // The value is the loss, the gradient that of the slopes.
        return Loss(
            values: loss + (residual - residual.detach()) * slope,
            metrics: ["squared_residual": try residual.detach().square().array()])
    }

    /// Computes L and T c_t of one trajectory: L is the mean over T transitions of a loss with these slopes.
    /// - Parameters:
    ///   - residuals: delta_t, [T].
    ///   - lambda: nil for only whole trajectories.
    static func balance(_ residuals: [Float], lambda: Double?) -> (loss: Float, slopes: [Float]) {
        let count = residuals.count
        let sums = residuals.reduce(into: [0.0]) { $0.append($0.last! + Double($1)) }
        let pairs = lambda == nil ? [(0, count)] : (0..<count).flatMap { i in (i + 1...count).map { (i, $0) } }
        let powers = (0...count).map { pow(lambda ?? 1, Double($0)) }
        let total = pairs.reduce(0) { $0 + powers[$1.1 - $1.0] }
        var loss = 0.0
        // c_t grows by 2 w S at i and shrinks by it at j.
        var changes = [Double](repeating: 0, count: count + 1)
        for (i, j) in pairs {
            let weight = powers[j - i] / total
            let sum = sums[j] - sums[i]
            loss += weight * sum * sum
            changes[i] += 2 * weight * sum
            changes[j] -= 2 * weight * sum
        }
        var slope = 0.0
        return (
            Float(loss),
            changes.dropLast().map { change in
                slope += change
                return Float(slope * Double(count))
            }
        )
    }
}
