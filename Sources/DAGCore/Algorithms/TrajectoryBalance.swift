import Foundation
import Support
import Tensors

/// Trajectory balance (Malkin et al. 2022), sub-trajectory balance (Madan et al. 2023) and detailed balance
/// over several transitions, with the memory of one pass: see `StretchBalances`.
final class TrajectoryBalance: TransitionAlgorithm {
    private let flow: any FlowNetwork
    private var balances: StretchBalances
    var trainedFlow: (any FlowNetwork)? { flow }

    /// - Parameter lambda: 0 for the balance of each stretch by itself.
    init(flow: any FlowNetwork, _ flowStates: FlowStates, lambda: Double) {
        self.flow = flow
        balances = StretchBalances(flowStates, lambda: lambda)
    }

    func prepareStep(prompts: [Int: Prompt], forEachPass: ((Transitions) throws -> Void) throws -> Void) throws {
        try balances.prepare(flow, forEachPass)
    }

    func loss(_ transitions: Transitions) throws -> Loss { balances.loss(transitions, flow: flow) }
}

/// The balances of a step's trajectories over stretches, the transitions from one state with a flow to the
/// next.
///
///     L = sum over i < j of w_ij S_ij^2,  S_ij = delta_i + ... + delta_(j-1)
///     w_ij = lambda^(j - i - 1) / (sum of all lambda^(j - i - 1))
///
/// where delta_i is the residual of stretch i of m: the sum of those of its transitions, in which the flows
/// of the states between are zero. With lambda = 0 each stretch is balanced by itself; if it is a single
/// transition, that is detailed balance. With m = 1 it is trajectory balance.
///
/// No graph over several transitions is needed, since
///
///     grad L = sum over t of c_t grad delta_t,  c_t = sum over i <= stretch of t < j of 2 w_ij S_ij,
///
/// so the numbers c_t are computed first, without a graph, and each transition then contributes by itself.
struct StretchBalances {
    private let flowStates: FlowStates
    private let lambda: Double
    /// The balances of the step under way, by trajectory: the residual and T c_t of each stretch.
    private var balances: [Int: (residuals: [Double], loss: Double, slopes: [Double])] = [:]

    init(_ flowStates: FlowStates, lambda: Double) {
        self.flowStates = flowStates
        self.lambda = lambda
    }

    /// Computes the balances of a step.
    /// - Parameters:
    ///   - forEachPass: see `Algorithm.prepareStep`.
    ///   - change: changes the residuals of stretches by trajectory, before they are balanced.
    /// - Throws: errors of `forEachPass` and `change`, `TensorError`.
    mutating func prepare(
        _ flow: (any FlowNetwork)?, _ forEachPass: ((Transitions) throws -> Void) throws -> Void,
        change: ([Int: [Double]]) throws -> [Int: [Double]] = { $0 }
    ) throws {
        var sums: [Int: [Double]] = [:]
        try forEachPass { transitions in
            let residuals = try transitions.residual(flow, logForward: transitions.logForward).array(Float.self)
            for (k, residual) in residuals.enumerated() {
                let stretch = flowStates.stretch(of: transitions.steps[k])
                sums[transitions.trajectories[k], default: Array(repeating: 0, count: flowStates.stretches)][stretch] += Double(residual)
            }
        }
        balances = try change(sums).mapValues { residuals in
            let (loss, slopes) = Self.balance(residuals, lambda: lambda)
            return (residuals, loss, slopes.map { $0 * Double(flowStates.transitions) })
        }
    }

    /// Returns the residual of each transition's stretch, [n].
    func residuals(_ transitions: Transitions) -> [Float] {
        zip(transitions.trajectories, transitions.steps).map { Float(balances[$0]!.residuals[flowStates.stretch(of: $1)]) }
    }

    /// Computes the losses of transitions by this balance alone.
    func loss(_ transitions: Transitions, flow: (any FlowNetwork)?) -> Loss {
        Loss(
            values: loss(transitions, transitions.residual(flow, logForward: transitions.logForward)),
            metrics: ["squared_residual": residuals(transitions).map { $0 * $0 }])
    }

    /// Returns the losses [n] of transitions: the value is L of each one's trajectory, the mean of the
    /// gradients over a trajectory's transitions that of L.
    /// - Parameter residual: of the transitions, [n], differentiable.
    func loss(_ transitions: Transitions, _ residual: Tensor) -> Tensor {
        let places = zip(transitions.trajectories, transitions.steps)
        let loss = Tensor(transitions.trajectories.map { Float(balances[$0]!.loss) }, device: residual.device)
        let slope = Tensor(places.map { Float(balances[$0]!.slopes[flowStates.stretch(of: $1)]) }, device: residual.device)
        return loss + (residual - residual.detach()) * slope
    }

    /// Computes L and the numbers c of one trajectory.
    /// - Parameter residuals: of its stretches, [m].
    static func balance(_ residuals: [Double], lambda: Double) -> (loss: Double, slopes: [Double]) {
        let count = residuals.count
        let sums = residuals.reduce(into: [0.0]) { $0.append($0.last! + $1) }
        let powers = (0..<count).map { pow(lambda, Double($0)) }
        let total = (0..<count).reduce(0.0) { $0 + powers[$1] * Double(count - $1) }
        var loss = 0.0
        // c grows by 2 w S at i and shrinks by it at j.
        var changes = [Double](repeating: 0, count: count + 1)
        for i in 0..<count {
            for j in i + 1...count where powers[j - i - 1] > 0 {
                let weight = powers[j - i - 1] / total
                let sum = sums[j] - sums[i]
                loss += weight * sum * sum
                changes[i] += 2 * weight * sum
                changes[j] -= 2 * weight * sum
            }
        }
        var slope = 0.0
        return (
            loss,
            changes.dropLast().map { change in
                slope += change
                return slope
            }
        )
    }
}
