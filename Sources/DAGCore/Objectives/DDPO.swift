import Support
import Tensors

/// DDPO-IS (Black et al. 2023), the baseline: loss = max(-A rho, -A clip(rho, 1 - c, 1 + c)) with the terminal reward alone.
struct DDPO: Objective {
    let usesFlow = false
    /// The bound c of the importance ratio.
    let clipRange: Double

    func loss(_ transitions: Transitions) -> Tensor {
        clippedSurrogate(advantage: transitions.advantage, ratio: transitions.ratio, clipRange: clipRange)
    }
}

/// Running reward statistics of each prompt (DDPO): the last rewards of a prompt, used once there are enough of them.
struct PromptStatistics: Codable, Equatable {
    private static let bufferSize = 16
    private static let minimumCount = 16
    private var rewards: [String: [Float]] = [:]

    /// Takes an epoch in and normalises it by each prompt's own mean and deviation, or the epoch's where a prompt is too new. A dropped
    /// trajectory, whose reward is NaN, has no part in it and gets 0.
    mutating func advantages(_ epoch: [Float], prompts: [String]) -> [Float] {
        for (prompt, reward) in zip(prompts, epoch) where !reward.isNaN {
            rewards[prompt] = (rewards[prompt, default: []] + [reward]).suffix(Self.bufferSize)
        }
        let whole = Moments(epoch)
        return zip(prompts, epoch).map { prompt, reward in
            let known = rewards[prompt] ?? []
            let moments = known.count < Self.minimumCount ? whole : Moments(known)
            return Self.clipped((reward - moments.mean) / (moments.deviation + 1e-8))
        }
    }

    /// (R - mean) / std over the epoch, clipped to [-5, 5]; 0 for a dropped trajectory.
    static func epochAdvantages(_ epoch: [Float]) -> [Float] {
        let moments = Moments(epoch)
        return epoch.map { clipped(($0 - moments.mean) / (moments.deviation + 1e-8)) }
    }

    private static func clipped(_ advantage: Float) -> Float { advantage.isNaN ? 0 : min(max(advantage, -5), 5) }
}
