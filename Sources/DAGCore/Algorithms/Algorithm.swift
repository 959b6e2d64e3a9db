import Support
import Tensors

/// The algorithms by the names of the command line.
package enum AlgorithmName: String, SettingChoice {
    case dagDB = "dag-db"
    case dagKL = "dag-kl"
    case dagTB = "dag-tb"
    case dagSubTB = "dag-subtb"
    case dagVarGrad = "dag-vargrad"
    case dagReplay = "dag-replay"
    case dagNabla = "dag-nabla"
    case ddpo
    case grpo

    /// Whether the loss weighs transitions by the importance ratio, and clips it.
    var clipsRatio: Bool { self == .dagKL || !usesBeta }

    /// Whether it samples in proportion to exp(beta s); else it maximises the score.
    package var usesBeta: Bool { self != .ddpo && self != .grpo }

    /// Whether it balances transitions between states that have a flow, and so decodes and scores predicted
    /// data.
    var scoresPredictions: Bool { [.dagDB, .dagKL, .dagTB, .dagSubTB].contains(self) }

    /// Whether it trains the network of a state flow.
    var trainsFlow: Bool { scoresPredictions || self == .dagNabla }

    /// Whether it learns from finished images, noised again.
    package var replays: Bool { self == .dagReplay || self == .dagNabla }

    /// Whether it can learn to sample from the target.
    package func reaches(_ target: Target) -> Bool { replays ? target == .anchored : usesBeta || target == .reward }

    /// Returns the states of a trajectory whose flow it balances.
    func flowStates(_ configuration: TrainingConfiguration, transitions: Int) -> FlowStates {
        switch self {
        case .dagDB, .dagKL, .dagSubTB: FlowStates(transitions: transitions, spacing: configuration.flowEvery)
        case .dagTB: FlowStates(transitions: transitions, spacing: transitions)
        case .dagVarGrad, .dagReplay, .dagNabla, .ddpo, .grpo: FlowStates(transitions: transitions, spacing: nil)
        }
    }

    /// Makes the algorithm with the settings that concern it.
    /// - Parameters:
    ///   - flowStates: see `flowStates(_:transitions:)`.
    ///   - team: the processes of the run.
    ///   - newFlow: makes the network of the state flow, for algorithms that train one.
    /// - Throws: errors of `newFlow`.
    func make(
        _ configuration: TrainingConfiguration, _ flowStates: FlowStates, team: Team, newFlow: () throws -> any FlowNetwork
    ) rethrows -> Method {
        let clipRange = configuration.clipRange
        switch self {
        case .dagDB where flowStates.areAll: return .transitions(DetailedBalance(flow: try newFlow()))
        case .dagDB, .dagTB: return .transitions(TrajectoryBalance(flow: try newFlow(), flowStates, lambda: 0))
        case .dagSubTB: return .transitions(TrajectoryBalance(flow: try newFlow(), flowStates, lambda: configuration.subtbLambda))
        case .dagKL:
            return .transitions(
                DetailedBalanceKL(flow: try newFlow(), flowStates, coefficient: configuration.klCoefficient, clipRange: clipRange))
        case .dagVarGrad: return .transitions(VarGrad(flowStates, team: team))
        case .dagReplay: return .replay(Replay(capacity: configuration.replayBufferSize))
        case .dagNabla:
            return .replay(Replay(capacity: configuration.replayBufferSize, gradient: FlowGradient(flow: try newFlow())))
        case .ddpo: return .transitions(DDPO(clipRange: clipRange, comparison: configuration.perPromptStatistics ? .promptHistory : .epoch))
        case .grpo: return .transitions(DDPO(clipRange: clipRange, comparison: .group))
        }
    }
}

/// What an optimiser step is made of.
enum Method {
    /// The transitions of trajectories as they were sampled.
    case transitions(any TransitionAlgorithm)
    /// Finished images, noised again.
    case replay(Replay)

    var algorithm: any Algorithm {
        switch self {
        case .transitions(let algorithm): algorithm
        case .replay(let algorithm): algorithm
        }
    }
}

/// A way to train the policy: everything that only this way needs. `prepareEpoch` is called once an epoch.
protocol Algorithm: AnyObject {
    /// The part of a checkpoint that belongs to the algorithm.
    associatedtype State: Codable = NoState
    var state: State { get set }
    /// The tensors of a checkpoint that belong to the algorithm beside its networks.
    var tensors: [String: Tensor] { get set }

    /// The network of the state flow; nil for algorithms without one.
    var trainedFlow: (any FlowNetwork)? { get }

    /// Prepares for the scored trajectories of an epoch.
    /// - Parameters:
    ///   - scores: of the final images [N]; NaN for a dropped trajectory.
    ///   - prompts: [N].
    /// - Returns: a line of warning, which is shown once a run.
    func prepareEpoch(scores: [Float], prompts: [Prompt]) -> String?
}

/// An algorithm that learns from transitions: `prepareStep` is called once a step, `loss` for every pass.
protocol TransitionAlgorithm: Algorithm {
    /// Prepares for an optimiser step.
    /// - Parameters:
    ///   - prompts: those of the step's trajectories, on all ranks, by their places in the epoch; without
    ///     dropped ones.
    ///   - forEachPass: calls its argument with all transitions of this rank's trajectories, pass by pass,
    ///     without gradients.
    /// - Throws: errors of `forEachPass`.
    func prepareStep(prompts: [Int: Prompt], forEachPass: ((Transitions) throws -> Void) throws -> Void) throws

    /// Computes the losses of transitions.
    /// - Throws: `TensorError`.
    func loss(_ transitions: Transitions) throws -> Loss
}

extension Algorithm {
    func prepareEpoch(scores: [Float], prompts: [Prompt]) -> String? { nil }
    var tensors: [String: Tensor] {
        get { [:] }
        set {}
    }
}

extension TransitionAlgorithm {
    func prepareStep(prompts: [Int: Prompt], forEachPass: ((Transitions) throws -> Void) throws -> Void) throws {}
}

/// The state of algorithms that keep none.
struct NoState: Codable {}

extension Algorithm where State == NoState {
    var state: NoState {
        get { NoState() }
        set {}
    }
}

/// Losses of n transitions.
struct Loss {
    /// [n], differentiable.
    let values: Tensor
    /// Numbers of each transition [n] by their keys in metrics.jsonl, where their means are shown.
    let metrics: [String: [Float]]
}

/// Transitions x_t -> x_t' as algorithms see them: n in groups of trajectories at the same timestep.
struct Transitions {
    /// The trajectory of each transition, by its place in the epoch, and the step, [n] each.
    let trajectories, steps: [Int]
    /// Transitions of one group.
    let groupSize: Int
    /// log P_F(x_t' | x_t) of the current policy, float32 [n], differentiable in theta.
    let logForward: Tensor
    /// log P_F of the policy at rollout, float32 [n].
    let logForwardAtRollout: Tensor
    /// log of the kernel that balances P_F, float32 [n]: P_B(x_t | x_t'), or the base model's P_F.
    let logBackward: Tensor
    /// One, or zero for a transition that is dropped because a reward could not score it, float32 [n].
    let weight: Tensor
    /// Evaluates log F(x_t) and log F(x_t') with a network, float32 [n] each, differentiable in phi; 0 for a
    /// state without a flow. Algorithms whose only flow is that of the end need no network.
    let logFlows: ((any FlowNetwork)?) -> (now: Tensor, next: Tensor)

    /// Computes delta_t = log F(x_t) + log P_F - log P_B - log F(x_t'), [n]: its sum between two states with
    /// a flow is zero when the sampler is in balance with the target.
    func residual(_ flow: (any FlowNetwork)?, logForward: Tensor) -> Tensor {
        let logFlow = logFlows(flow)
        return logFlow.now + logForward - logBackward - logFlow.next
    }

    /// The importance ratio rho = P_F(theta) / P_F(at rollout) [n], of reduced log-probabilities.
    var ratio: Tensor { (logForward - logForwardAtRollout).exp() }
}

/// The clipped surrogate of PPO (Schulman et al. 2017): max(-A rho, -A clip(rho, 1 - c, 1 + c)).
struct ClippedSurrogate {
    /// The bound c of the importance ratio.
    let clipRange: Double

    /// Computes the loss [n] of advantages A [n] and ratios rho [n].
    func loss(advantage: Tensor, ratio: Tensor) -> Tensor {
        Tensor.maximum(-advantage * ratio, -advantage * ratio.clamp(1 - clipRange, 1 + clipRange))
    }

    /// Marks the ratios outside the range with one, the others with zero, [n].
    /// - Throws: `TensorError`.
    func clipped(_ ratio: Tensor) throws -> [Float] {
        try ratio.detach().array(Float.self).map { abs(Double($0) - 1) > clipRange ? 1 : 0 }
    }
}
