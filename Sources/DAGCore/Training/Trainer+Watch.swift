import Foundation
import Images
import Rewards
import Tensors

/// What an epoch's trajectories tell of what the reward does not: diversity, distance to the pretrained model, held-out rewards.
extension Trainer {
    /// How much pictures differ: those of the same prompt if so many recur that there is enough to compare, else all. Which it is is the same
    /// in every epoch.
    func diversity(_ images: ImageBatch, _ prompts: [String]) -> Double {
        let (count, all) = (Double(prompts.count), Double(Set(self.prompts.prompts).count))
        // Trajectories beyond the first of their prompt, on average.
        let recurring = all == 0 ? 0 : count - all * (1 - pow(1 - 1 / all, count))
        return images.diversity(groups: recurring >= 8 ? prompts : Array(repeating: "", count: prompts.count))
    }

    /// KL(P_theta || P_base) of a trajectory that starts from the same noise, in nats: the sum over steps of the mean over trajectories,
    /// estimated from some of both. The policy is the one that sampled.
    func baseDivergence(_ rollout: Rollout, _ conditioning: Conditioning?) throws -> Double {
        let (strata, trajectories) = (min(8, kernels.transitions), Array(0..<min(8, rollout.count)))
        let steps = (0..<strata).map { (2 * $0 + 1) * kernels.transitions / (2 * strata) }
        let sum = try withoutGradients {
            try steps.reduce(0.0) { sum, step in
                let indices = Tensor.full([trajectories.count], Double(step), dtype: .int64, device: pipeline.device)
                let times = kernels.times(Array(repeating: step, count: trajectories.count), device: pipeline.device)
                let x = rollout.states[step].rows(trajectories)
                let base = pipeline.withoutAdapters {
                    pipeline.denoise(x, times: times, conditioning?.rows(trajectories), guidance: configuration.guidanceScale).guided
                }
                let guided = rollout.guided[step].rows(trajectories)
                return sum + Double(try kernels.divergence(guided, from: base, x: x, steps: indices).mean().item())
            }
        }
        return sum / Double(strata) * Double(kernels.transitions)
    }

    /// What the watch looks at.
    func watched(_ epoch: ScoredEpoch) -> RewardWatch.Epoch {
        let objectives = epoch.rollout.objectives
        return RewardWatch.Epoch(
            reward: .init(evaluator.total(objectives)),
            heldOut: Dictionary(uniqueKeysWithValues: evaluator.heldOut(objectives).map { ($0.name, .init($0.scores)) }),
            diversity: epoch.diversity)
    }
}
