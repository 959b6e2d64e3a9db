import Foundation
import Images
import Rewards
import Support
import Tensors

/// Facts about an epoch's trajectories beside their scores, for metrics and warnings.
struct EpochSummary {
    /// How much the final images differ: see `ImageBatch.diversity`.
    let diversity: Double
    /// KL(P_theta || P_base), nats: see `Sampler.baseDivergences`.
    let baseDivergence: Double
    /// The time and the update at which this process began with the epoch, for the speed.
    let start: EpochStart
    let firstUpdate: Int
}

/// The moment at which this process began with an epoch.
struct EpochStart {
    private let instant = ContinuousClock.now
    private let secondsWaited: Double

    init(_ evaluator: RewardEvaluator) { secondsWaited = evaluator.secondsWaited }

    /// Seconds since then.
    var seconds: Double { instant.duration(to: .now).seconds }

    /// Returns the share of the time since then in which training waited for scores.
    func scoringShare(_ evaluator: RewardEvaluator) -> Double { (evaluator.secondsWaited - secondsWaited) / max(seconds, 1e-9) }
}

extension PromptSet {
    /// Measures how much images differ: those of the same prompt if prompts recur often enough to compare,
    /// else all. The choice depends only on the prompt set, so that it is the same in every epoch.
    func diversity(_ images: ImageBatch, prompts: [Prompt]) -> Double {
        let count = Double(prompts.count)
        let all = Double(Set(self.prompts).count)
        // Expected trajectories beyond the first of their prompt.
        let recurring = all == 0 ? 0 : count - all * (1 - pow(1 - 1 / all, count))
        return images.diversity(groups: recurring >= 8 ? prompts : Array(repeating: "", count: prompts.count))
    }
}

extension Sampler {
    /// Estimates KL(P_theta || P_base) of trajectories from the same noise, nats, by at most eight of their
    /// steps. P_theta is the policy at rollout. One trajectory is computed at a time, so that its number does
    /// not depend on which others lie here.
    /// - Parameter trajectories: some of those whose states lie here.
    /// - Throws: `TensorError`.
    func baseDivergences(_ epoch: ScoredEpoch, of trajectories: [Int]) throws -> [Double] {
        let strata = min(8, kernel.transitions)
        let chosen = (0..<strata).map { (2 * $0 + 1) * kernel.transitions / (2 * strata) }
        return try withoutGradients {
            try trajectories.map { trajectory in
                let row = epoch.rollout.rows(of: [trajectory])
                func states(_ list: [Tensor]) -> Tensor { Tensor.cat(chosen.map { list[$0].rows(row) }, 0) }
                let x = states(epoch.rollout.states)
                let text = epoch.conditioning?.rows(chosen.map { _ in trajectory })
                let base = model.withoutAdapters { model.denoise(x, times: kernel.times(chosen), text, guidance: guidance).guided }
                let steps = Tensor(chosen.map(Int64.init), device: model.device)
                let divergences = kernel.divergence(states(epoch.rollout.guided), from: base, x: x, steps: steps)
                return Double(try divergences.mean().item()) * Double(kernel.transitions)
            }
        }
    }
}
