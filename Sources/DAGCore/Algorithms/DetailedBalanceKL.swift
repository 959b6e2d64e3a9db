import Support
import Tensors

/// DAG-KL (paper, section 4.2): phi minimises delta_t^2; theta takes a REINFORCE step on the KL divergence
/// from P_F to the backward measure.
///
///     r_t  = stop_grad(log F(x_t') + log P_B - log P_F - log F(x_t))
///     A_t  = clip((r_t - b_t) / sigma_t, -5, 5)     b_t, sigma_t: leave-one-out over the group
///     loss = delta_t^2 + k max(-A_t rho, -A_t clip(rho, 1 - c, 1 + c))
final class DetailedBalanceKL: TransitionAlgorithm {
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
        let weights = try transitions.weight.array(Float.self)
        let rewards = try zip(residual.detach().array(Float.self), weights).map { $1 > 0 ? -$0 : .nan }
        let advantage = Tensor(rewards.chunks(of: transitions.groupSize).flatMap(Self.advantages), device: residual.device)
        let ratio = transitions.ratio
        let squares = residual.square()
        return Loss(
            values: squares + surrogate.loss(advantage: advantage, ratio: ratio) * coefficient,
            metrics: ["squared_residual": try squares.detach().array(), "clip_fraction": try surrogate.clipped(ratio)])
    }

    /// Normalises the rewards of a group, each by mean and deviation of the others, clipped to [-5, 5]. The
    /// advantage is 0 where fewer than two others count, or where all are the same.
    ///
    /// With n others, their mean is b_i = m - (r_i - m) / n, where m is the mean of all, and the others' mean
    /// squared deviation, each from its own b_j, is ((n + 1) / n)^2 sum of (r_j - m)^2 / n. Hence
    ///
    ///     A_i = (r_i - m) / sqrt(deviation^2 - (r_i - m)^2 / n)
    ///
    /// with the unbiased deviation of all.
    /// - Parameter group: r_t, [b] with b > 1; NaN for transitions that do not count.
    static func advantages(_ group: [Float]) -> [Float] {
        let moments = Moments(group)
        let others = Double(group.count { !$0.isNaN } - 1)
        return group.map { reward in
            guard !reward.isNaN, others >= 2, moments.deviation > 0 else { return 0 }
            let distance = Double(reward) - moments.mean
            let spread = (moments.deviation * moments.deviation - distance * distance / others).squareRoot()
            return Float(min(max(distance / spread, -5), 5))
        }
    }
}
