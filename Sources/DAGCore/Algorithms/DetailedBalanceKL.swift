import Support
import Tensors

/// DAG-KL (paper, section 4.2): phi minimises delta^2; theta takes a REINFORCE step on the KL divergence
/// from P_F to the backward measure.
///
///     delta = sum over a stretch of log F(x_t) + log P_F - log P_B - log F(x_t')
///     A     = clip((-stop_grad(delta) - b) / sigma, -5, 5)     b, sigma: leave-one-out over the group
///     loss  = delta^2 + k sum over the stretch of max(-A rho_t, -A clip(rho_t, 1 - c, 1 + c))
///
/// with the mean over the stretches of a trajectory. A stretch goes from one state with a flow to the next:
/// it is a single transition, as in the paper, unless the flow is at some states alone.
final class DetailedBalanceKL: TransitionAlgorithm {
    private let flow: any FlowNetwork
    /// The weight k of the policy's term.
    private let coefficient: Double
    private let surrogate: ClippedSurrogate
    /// Transitions of a stretch, on average.
    private let length: Double
    /// The balances of stretches; nil where each is one transition, which needs no preparation.
    private var balances: StretchBalances?
    var trainedFlow: (any FlowNetwork)? { flow }

    init(flow: any FlowNetwork, _ flowStates: FlowStates, coefficient: Double, clipRange: Double) {
        self.flow = flow
        length = Double(flowStates.transitions) / Double(flowStates.stretches)
        balances = flowStates.areAll ? nil : StretchBalances(flowStates, lambda: 0)
        self.coefficient = coefficient
        surrogate = ClippedSurrogate(clipRange: clipRange)
    }

    func prepareStep(prompts: [Int: Prompt], forEachPass: ((Transitions) throws -> Void) throws -> Void) throws {
        try balances?.prepare(flow, forEachPass)
    }

    func loss(_ transitions: Transitions) throws -> Loss {
        let residual = transitions.residual(flow, logForward: transitions.logForward.detach())
        let weights = try transitions.weight.array(Float.self)
        let residuals = try balances?.residuals(transitions) ?? residual.detach().array(Float.self)
        let rewards = zip(residuals, weights).map { $1 > 0 ? -$0 : .nan }
        let advantage = Tensor(rewards.chunks(of: transitions.groupSize).flatMap(Self.advantages), device: residual.device)
        let ratio = transitions.ratio
        let squares = balances?.loss(transitions, residual) ?? residual.square()
        return Loss(
            values: squares + surrogate.loss(advantage: advantage, ratio: ratio) * (coefficient * length),
            metrics: ["squared_residual": residuals.map { $0 * $0 }, "clip_fraction": try surrogate.clipped(ratio)])
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
    /// - Parameter group: r = -delta, [b] with b > 1; NaN for transitions that do not count.
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
