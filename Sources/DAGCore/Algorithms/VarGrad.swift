import Support
import Tensors

/// Trajectory balance without a flow network (VarGrad: Richter et al. 2020; Zhang et al. 2023): what the flow
/// of the starting noise is for `TrajectoryBalance`, the other trajectories of the same prompt are here.
///
///     S_i = log p(x_T) + sum over t of (log P_F - log P_B) - beta s(x_0),  p the density of the noise
///     L_i = (S_i - stop_grad(mean of S_j over the step's other trajectories j of the prompt))^2
///
/// In balance all S of a prompt are the same: -log Z. For an anchored target p cancels, since the pretrained
/// model starts from the same noise. As there, each transition contributes by itself, with a slope that is
/// computed first.
final class VarGrad: TransitionAlgorithm {
    let trainedFlow: (any FlowNetwork)? = nil
    private let team: Team
    private var balances: StretchBalances

    /// - Parameter team: trains on the trajectories of a step together.
    init(_ flowStates: FlowStates, team: Team) {
        self.team = team
        balances = StretchBalances(flowStates, lambda: 0)
    }

    func prepareStep(prompts: [Int: Prompt], forEachPass: ((Transitions) throws -> Void) throws -> Void) throws {
        try balances.prepare(nil, forEachPass) { own in
            let sums = try team.exchange("balances", own).reduce(into: [:]) { all, part in all.merge(part) { first, _ in first } }
            var differences = own
            for group in Dictionary(grouping: prompts.keys.sorted(), by: { prompts[$0]! }).values {
                let (count, total) = (Double(group.count), group.reduce(0) { $0 + sums[$1]![0] })
                // The others' mean is (total - S) / (count - 1); a single trajectory has no balance.
                for i in group where own[i] != nil { differences[i] = [(count * sums[i]![0] - total) / max(1, count - 1)] }
            }
            return differences
        }
    }

    func loss(_ transitions: Transitions) throws -> Loss { balances.loss(transitions, flow: nil) }
}
