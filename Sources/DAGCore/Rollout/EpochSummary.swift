import Foundation
import Images
import Rewards
import Tensors

/// Facts about an epoch's trajectories beside their scores, for metrics and warnings.
struct EpochSummary {
    /// How much the final images differ: see `ImageBatch.diversity`.
    let diversity: Double
    /// KL(P_theta || P_base), nats: see `Sampler.baseDivergence`.
    let baseDivergence: Double
    /// The time and the update at which this process began with the epoch, for the speed.
    let start: ContinuousClock.Instant
    let firstUpdate: Int
}

extension PromptSet {
    /// Measures how much images differ: those of the same prompt if prompts recur often enough to compare,
    /// else all. The choice depends only on the prompt set, so that it is the same in every epoch.
    func diversity(_ images: ImageBatch, prompts: [String]) -> Double {
        let count = Double(prompts.count)
        let all = Double(Set(self.prompts).count)
        // Expected trajectories beyond the first of their prompt.
        let recurring = all == 0 ? 0 : count - all * (1 - pow(1 - 1 / all, count))
        return images.diversity(groups: recurring >= 8 ? prompts : Array(repeating: "", count: prompts.count))
    }
}

extension Sampler {
    /// Estimates KL(P_theta || P_base) of a trajectory from the same noise, nats: the sum over steps of the
    /// mean over trajectories, from at most eight of each. P_theta is the policy at rollout.
    /// - Throws: `TensorError`.
    func baseDivergence(_ rollout: Rollout, _ conditioning: Conditioning?) throws -> Double {
        let strata = min(8, kernel.transitions)
        let trajectories = Array(0..<min(8, rollout.count))
        let chosen = (0..<strata).map { (2 * $0 + 1) * kernel.transitions / (2 * strata) }
        let sum = try withoutGradients {
            try chosen.reduce(0.0) { sum, step in
                let steps = Tensor.full([trajectories.count], Double(step), dtype: .int64, device: model.device)
                let times = kernel.times(Array(repeating: step, count: trajectories.count))
                let x = rollout.states[step].rows(trajectories)
                let base = model.withoutAdapters {
                    model.denoise(x, times: times, conditioning?.rows(trajectories), guidance: guidance).guided
                }
                let guided = rollout.guided[step].rows(trajectories)
                return sum + Double(try kernel.divergence(guided, from: base, x: x, steps: steps).mean().item())
            }
        }
        return sum / Double(strata) * Double(kernel.transitions)
    }
}
