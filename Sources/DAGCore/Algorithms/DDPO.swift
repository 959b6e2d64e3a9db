import Support
import Tensors

/// The baselines DDPO-IS (Black et al. 2023) and GRPO (Shao et al. 2024; for diffusion Liu et al. 2025):
/// loss = max(-A rho, -A clip(rho, 1 - c, 1 + c)), where A is the normalised score of the final image:
/// (s - mean) / deviation, clipped to [-5, 5].
final class DDPO: TransitionAlgorithm {
    /// The scores whose mean and deviation normalise a score.
    enum Comparison {
        /// All of the epoch.
        case epoch
        /// The newest of the prompt: see `PromptStatistics`.
        case promptHistory
        /// Those of the prompt in the epoch: GRPO.
        case group
    }

    struct State: Codable {
        /// Normalised score of each trajectory of the epoch under way, [N].
        var advantages: [Float] = []
        var promptStatistics = PromptStatistics()
    }

    var state = State()
    let trainedFlow: (any FlowNetwork)? = nil
    private let surrogate: ClippedSurrogate
    private let comparison: Comparison

    init(clipRange: Double, comparison: Comparison) {
        surrogate = ClippedSurrogate(clipRange: clipRange)
        self.comparison = comparison
    }

    func prepareEpoch(scores: [Float], prompts: [Prompt]) -> String? {
        switch comparison {
        case .epoch:
            state.advantages = PromptStatistics.epochAdvantages(scores)
            return nil
        case .promptHistory:
            state.advantages = state.promptStatistics.advantages(scores, prompts: prompts)
            return state.promptStatistics.shortage(prompts)
        case .group:
            state.advantages = PromptStatistics.groupAdvantages(scores, prompts: prompts)
            let all = Set(zip(prompts, scores).filter { !$0.1.isNaN }.map(\.0)).count
            let equal = all - Set(zip(prompts, state.advantages).filter { $0.1 != 0 }.map(\.0)).count
            guard all > 1, equal > 0 else { return nil }
            return "the images of \(equal) of the epoch's \(all) prompts all have the same score: nothing is learned from these prompts. "
                + "More images per prompt, or a reward that tells them apart, teach more"
        }
    }

    func loss(_ transitions: Transitions) throws -> Loss {
        let ratio = transitions.ratio
        let advantage = Tensor(transitions.trajectories.map { state.advantages[$0] }, device: ratio.device)
        return Loss(
            values: surrogate.loss(advantage: advantage, ratio: ratio), metrics: ["clip_fraction": try surrogate.clipped(ratio)])
    }
}

/// Running statistics of each prompt's scores: the newest, at least those of one epoch, used once there are
/// enough.
struct PromptStatistics: Codable, Equatable {
    /// Scores that a prompt needs, and those that are kept of it if an epoch has fewer.
    private static let enough = 16
    private var rewards: [Prompt: [Float]] = [:]

    /// Adds an epoch's scores and normalises them by each prompt's own mean and deviation, or by the epoch's
    /// where a prompt has too few. A dropped trajectory, whose score is NaN, counts in neither and gets 0.
    mutating func advantages(_ epoch: [Float], prompts: [Prompt]) -> [Float] {
        var new: [Prompt: [Float]] = [:]
        for (prompt, score) in zip(prompts, epoch) where !score.isNaN { new[prompt, default: []].append(score) }
        for (prompt, scores) in new {
            rewards[prompt] = (rewards[prompt, default: []] + scores).suffix(max(Self.enough, scores.count))
        }
        let whole = Moments(epoch)
        let own = rewards.filter { $0.value.count >= Self.enough }.mapValues { Moments($0) }
        return zip(prompts, epoch).map { prompt, score in Self.normalized(score, own[prompt] ?? whole) }
    }

    /// Describes how many prompts of an epoch have too few scores so far; nil: none.
    func shortage(_ prompts: [Prompt]) -> String? {
        let all = Set(prompts)
        let short = all.count { rewards[$0, default: []].count < Self.enough }
        guard short > 0 else { return nil }
        return "\(short) of the epoch's \(all.count) prompts have fewer than \(Self.enough) scores so far: these are normalised by the "
            + "statistics of the whole epoch. Fewer prompts or more images an epoch give each prompt its own"
    }

    /// Normalises scores over the epoch; 0 for NaN.
    static func epochAdvantages(_ epoch: [Float]) -> [Float] {
        let moments = Moments(epoch)
        return epoch.map { normalized($0, moments) }
    }

    /// Normalises scores over those of the same prompt in the epoch; 0 for NaN and for a prompt's only score.
    static func groupAdvantages(_ epoch: [Float], prompts: [Prompt]) -> [Float] {
        var advantages = [Float](repeating: 0, count: epoch.count)
        for places in Dictionary(grouping: epoch.indices, by: { prompts[$0] }).values {
            for (place, advantage) in zip(places, epochAdvantages(places.map { epoch[$0] })) { advantages[place] = advantage }
        }
        return advantages
    }

    private static func normalized(_ score: Float, _ moments: Moments) -> Float {
        guard !score.isNaN, moments.deviation > 0 else { return 0 }
        return Float(min(max((Double(score) - moments.mean) / moments.deviation, -5), 5))
    }
}
