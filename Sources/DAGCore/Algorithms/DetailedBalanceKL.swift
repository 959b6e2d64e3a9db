import Tensors

/// DAG-KL (paper, section 4.2): phi minimises delta_t^2; theta takes a REINFORCE step on the KL divergence
/// from P_F to the backward measure.
///
///     r_t  = stop_grad(log F(x_t') + log P_B - log P_F - log F(x_t))
///     A_t  = clip((r_t - b_t) / (sigma_t + 1e-8), -5, 5)     b_t, sigma_t: leave-one-out over the group
///     loss = delta_t^2 + k max(-A_t rho, -A_t clip(rho, 1 - c, 1 + c))
final class DetailedBalanceKL: Algorithm {
    private let flow: any FlowNetwork
    /// The weight k of the policy's term.
    private let coefficient: Double
    private let surrogate: ClippedSurrogate
    var trainedFlow: (any FlowNetwork)? { flow }

    init(flow: any FlowNetwork, coefficient: Double, clipRange: Double) {
        self.flow = flow
        self.coefficient = coefficient
        surrogate = ClippedSurrogate(clipRange: clipRange)
    }

    func loss(_ transitions: Transitions) throws -> Loss {
        let residual = transitions.residual(flow, logForward: transitions.logForward.detach())
        let reward = -residual.detach()
        let groups = [-1, transitions.groupSize]
        let advantage = Self.advantage(reward.reshape(groups), weight: transitions.weight.reshape(groups)).reshape([-1])
        let ratio = transitions.ratio
        let squares = residual.square()
        return Loss(
            values: squares + surrogate.loss(advantage: advantage, ratio: ratio) * coefficient,
            metrics: ["squared_residual": try squares.detach().array(), "clip_fraction": try surrogate.clipped(ratio)])
    }

    /// Normalises within rows by mean and standard deviation of the other columns, clipped to [-5, 5]. The
    /// advantage is 0 where fewer than two others count.
    /// - Parameters:
    ///   - reward: r_t, [groups, b] with b > 1.
    ///   - weight: one for transitions that count, else zero; [groups, b].
    static func advantage(_ reward: Tensor, weight: Tensor) -> Tensor {
        let others = weight.sum([1], keepDims: true) - weight
        let divisor = others.clamp(1, .infinity)
        let weighted = reward * weight
        let baseline = (weighted.sum([1], keepDims: true) - weighted) / divisor
        let squares = (reward - baseline).square() * weight
        let deviation = ((squares.sum([1], keepDims: true) - squares) / divisor).sqrt()
        return ((reward - baseline) / (deviation + 1e-8)).clamp(-5, 5) * (others - 1).clamp(0, 1)
    }
}
