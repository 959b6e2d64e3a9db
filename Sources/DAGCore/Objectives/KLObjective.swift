import Tensors

/// DAG-KL (paper, section 4.2): phi minimises delta_t^2; theta takes a REINFORCE step on the KL divergence from P_F to the backward measure.
///
///     r_t  = stop_grad(log F(x_t') + log P_B - log P_F - log F(x_t))
///     A_t  = clip((r_t - b_t) / (s_t + 1e-8), -5, 5)     b_t, s_t: leave-one-out over the group
///     loss = delta_t^2 + k max(-A_t rho, -A_t clip(rho, 1 - c, 1 + c))
struct KLObjective: Objective {
    let usesFlow = true
    /// The weight k of the policy's term.
    let coefficient: Double
    /// The bound c of the importance ratio.
    let clipRange: Double

    func loss(_ transitions: Transitions) -> Tensor {
        let residual = transitions.residual(logForward: transitions.logForward.detach())!
        let reward = -residual.detach()
        let advantage = Self.advantage(reward.reshape([-1, transitions.groupSize])).reshape([-1])
        let policy = clippedSurrogate(advantage: advantage, ratio: transitions.ratio, clipRange: clipRange)
        return residual.square() + policy * coefficient
    }

    /// Leave-one-out normalisation within rows: mean and standard deviation of the others, clipped to [-5, 5].
    /// - Parameter reward: [groups, b] with b > 1.
    static func advantage(_ reward: Tensor) -> Tensor {
        let others = Double(reward.size(1) - 1)
        let baseline = (reward.sum([1], keepDims: true) - reward) / others
        let squares = (reward - baseline).square()
        let deviation = ((squares.sum([1], keepDims: true) - squares) / others).sqrt()
        return ((reward - baseline) / (deviation + 1e-8)).clamp(-5, 5)
    }
}
