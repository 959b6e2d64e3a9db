import Support
import Tensors

/// DDPO-IS (Black et al. 2023), the baseline: loss = max(-A rho, -A clip(rho, 1 - c, 1 + c)),
/// where A is the normalised score of the final image.
final class DDPO: Algorithm {
    struct State: Codable {
        /// Normalised score of each trajectory of the epoch under way, [N].
        var advantages: [Float] = []
        var promptStatistics = PromptStatistics()
    }

    var state = State()
    let trainedFlow: (any FlowNetwork)? = nil
    private let surrogate: ClippedSurrogate
    private let usesPromptStatistics: Bool

    init(clipRange: Double, usesPromptStatistics: Bool) {
        surrogate = ClippedSurrogate(clipRange: clipRange)
        self.usesPromptStatistics = usesPromptStatistics
    }

    func prepareEpoch(scores: [Float], prompts: [String]) {
        state.advantages =
            usesPromptStatistics
            ? state.promptStatistics.advantages(scores, prompts: prompts) : PromptStatistics.epochAdvantages(scores)
    }

    func loss(_ transitions: Transitions) throws -> Loss {
        let ratio = transitions.ratio
        let advantage = Tensor(transitions.trajectories.map { state.advantages[$0] }, device: ratio.device)
        return Loss(
            values: surrogate.loss(advantage: advantage, ratio: ratio), metrics: ["clip_fraction": try surrogate.clipped(ratio)])
    }
}

/// Running statistics of each prompt's scores: the last few, used once there are enough.
struct PromptStatistics: Codable, Equatable {
    private static let bufferSize = 16
    private static let minimumCount = 16
    private var rewards: [String: [Float]] = [:]

    /// Adds an epoch's scores and normalises them by each prompt's own mean and deviation, or by the epoch's
    /// where a prompt has too few. A dropped trajectory, whose score is NaN, counts in neither and gets 0.
    mutating func advantages(_ epoch: [Float], prompts: [String]) -> [Float] {
        for (prompt, score) in zip(prompts, epoch) where !score.isNaN {
            rewards[prompt] = (rewards[prompt, default: []] + [score]).suffix(Self.bufferSize)
        }
        let whole = Moments(epoch)
        return zip(prompts, epoch).map { prompt, score in
            let known = rewards[prompt] ?? []
            return Self.normalized(score, known.count < Self.minimumCount ? whole : Moments(known))
        }
    }

    /// Normalises scores over the epoch: (s - mean) / deviation, clipped to [-5, 5]; 0 for NaN.
    static func epochAdvantages(_ epoch: [Float]) -> [Float] {
        let moments = Moments(epoch)
        return epoch.map { normalized($0, moments) }
    }

    private static func normalized(_ score: Float, _ moments: Moments) -> Float {
        let advantage = (score - moments.mean) / (moments.deviation + 1e-8)
        return advantage.isNaN ? 0 : min(max(advantage, -5), 5)
    }
}
