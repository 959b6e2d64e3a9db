import Tensors

/// The training objectives by the names of the command line.
public enum Algorithm: String, Codable, CaseIterable, Sendable {
    case dagDB = "dag-db"
    case dagKL = "dag-kl"
    case dagTB = "dag-tb"
    case dagSubTB = "dag-subtb"
    case ddpo

    /// The loss of this algorithm.
    func objective(klCoefficient: Double, clipRange: Double, lambda: Double) -> any Objective {
        switch self {
        case .dagDB: DetailedBalance()
        case .dagKL: KLObjective(coefficient: klCoefficient, clipRange: clipRange)
        case .dagTB: TrajectoryBalance(lambda: nil)
        case .dagSubTB: TrajectoryBalance(lambda: lambda)
        case .ddpo: DDPO(clipRange: clipRange)
        }
    }
}

/// What the losses see of n transitions x_t -> x_t', float32 [n] each: groups of trajectories at the same timestep, one after the other.
struct Transitions {
    /// log P_F(x_t' | x_t) of the current policy, differentiable in theta.
    let logForward: Tensor
    /// The same at rollout.
    let logForwardAtRollout: Tensor
    /// log of the kernel that balances P_F: P_B(x_t | x_t'), or the pretrained model's P_F(x_t' | x_t).
    let logBackward: Tensor
    /// log F(x_t) and log F(x_t'), differentiable in phi; nil for objectives without a flow.
    let logFlow: Flows?
    /// Of objectives over whole trajectories: each transition's share of its trajectory's loss, and the loss's slope in delta_t.
    let balance: (loss: Tensor, slope: Tensor)?
    /// Normalised reward of each transition's trajectory.
    let advantage: Tensor
    /// One; zero for a transition that is dropped because a reward could not score it.
    let weight: Tensor
    /// Transitions of one group: trajectories at the same timestep.
    let groupSize: Int

    /// log F(x_t) and log F(x_t').
    typealias Flows = (now: Tensor, next: Tensor)

    /// delta_t = log F(x_t) + log P_F - log P_B - log F(x_t'): zero everywhere when the sampler is in balance with the reward.
    static func residual(_ logFlow: Flows, logForward: Tensor, logBackward: Tensor) -> Tensor {
        logFlow.now + logForward - logBackward - logFlow.next
    }

    /// delta_t with this log P_F; nil for objectives without a flow.
    func residual(logForward: Tensor) -> Tensor? {
        logFlow.map { Self.residual($0, logForward: logForward, logBackward: logBackward) }
    }

    /// The importance ratio rho = P_F(theta) / P_F(at rollout), with the reduction of the log-probabilities.
    var ratio: Tensor { (logForward - logForwardAtRollout).exp() }
}

/// A loss over transitions.
protocol Objective {
    /// Whether the loss needs the state flow, and so forward-looking rewards.
    var usesFlow: Bool { get }
    /// The loss of each transition [n]; that of a dropped one is not looked at.
    func loss(_ transitions: Transitions) -> Tensor
}

/// max(-A rho, -A clip(rho, 1 - c, 1 + c)): the clipped surrogate of PPO (Schulman et al. 2017).
func clippedSurrogate(advantage: Tensor, ratio: Tensor, clipRange: Double) -> Tensor {
    Tensor.maximum(-advantage * ratio, -advantage * ratio.clamp(1 - clipRange, 1 + clipRange))
}
