import Foundation
import Rewards
import Support

/// What a line of metrics.jsonl holds.
package protocol MetricsLine: Sendable {
    /// Numbers and texts by their keys.
    var values: [String: Any] { get }
}

extension MetricsLine {
    /// Returns the line: JSON with sorted keys. A number that is not finite is null.
    /// - Throws: an error of `JSONSerialization`.
    package func json() throws -> Data {
        // JSON has no NaN: a diverged run says null.
        let finite = values.mapValues { value -> Any in (value as? Double).map { $0.isFinite } == false ? NSNull() : value }
        return try JSONSerialization.data(withJSONObject: finite, options: [.sortedKeys, .withoutEscapingSlashes]) + Data("\n".utf8)
    }

    /// The numbers under the tags of TensorBoard, which groups them by what stands before the first slash.
    var scalars: [String: Double] {
        var scalars: [String: Double] = [:]
        for (key, value) in values where !["epoch", "step"].contains(key) {
            guard let number = value as? Double ?? (value as? Int).map(Double.init) else { continue }
            let own = key.hasPrefix("evaluation_") ? "evaluation/\(key.dropFirst("evaluation_".count))" : "train/\(key)"
            scalars[key.contains("/") ? key : own] = number
        }
        return scalars
    }
}

/// The report of one optimiser step.
package struct StepMetrics: MetricsLine {
    /// Epoch and optimiser step of the run, from zero.
    package let epoch, step: Int
    /// The trained score of the epoch's final images, without normalisation.
    package let rewardMean, rewardStd: Double
    /// Mean over the epoch's images of each objective of each reward.
    package let objectives: [String: Double]
    /// How much the epoch's images differ: see `PromptSet.diversity`.
    package let diversity: Double
    /// KL(P_theta || P_base), nats: the distance to the pretrained model; see `Sampler.baseDivergences`.
    package let baseDivergence: Double
    /// Mean loss of a transition.
    package let loss: Double
    /// Means over transitions of the algorithm's own numbers, by keys such as `squared_residual`.
    package let algorithmMetrics: [String: Double]
    /// Largest |rho - 1|; nil for algorithms without importance ratios.
    package let ratioDeviation: Double?
    /// Gradient norms before clipping; nil for a network that this step did not train.
    package let policyGradNorm, flowGradNorm: Double?
    /// beta_e: the factor of the score in this epoch's target.
    package let beta: Double
    /// Trajectories sampled so far.
    package let trajectories: Int
    /// Trajectories of this epoch, and transitions of this step, that are left out for lack of a score.
    package let dropped, droppedTransitions: Int
    /// Scores that were assumed for lack of one, in the epoch's rollout and in this step.
    package let imputed: Int
    /// Transitions trained a second since the epoch began, sampling included.
    package let transitionsPerSecond: Double
    /// The share of that time in which training waited for scores, 0 to 1.
    package let scoringShare: Double

    package var values: [String: Any] {
        var object: [String: Any] = [
            "epoch": epoch, "step": step, "reward_mean": rewardMean, "reward_std": rewardStd, "diversity": diversity,
            "base_kl": baseDivergence, "loss": loss, "beta": beta, "trajectories": trajectories,
            "dropped": dropped, "dropped_transitions": droppedTransitions, "imputed": imputed,
            "transitions_per_second": (transitionsPerSecond * 10).rounded() / 10,
            "scoring_share": (scoringShare * 1000).rounded() / 1000,
        ]
        object["ratio_deviation"] = ratioDeviation
        object["policy_grad_norm"] = policyGradNorm
        object["flow_grad_norm"] = flowGradNorm
        object.merge(algorithmMetrics) { first, _ in first }
        for (name, mean) in objectives { object["reward/" + name] = mean }
        return object
    }
}

/// Scores of images of fixed prompts and seeds.
package struct Evaluation: MetricsLine {
    /// Epochs done before the evaluation.
    package let epoch: Int
    /// Number of images.
    package let count: Int
    /// The trained score, without normalisation.
    package let rewardMean, rewardStd: Double
    /// Number of images that have a score.
    package let scored: Int
    /// Mean of each objective of each reward.
    package let objectives: [String: Double]

    init(_ report: RewardReport, of evaluator: RewardEvaluator, epoch: Int) {
        self.epoch = epoch
        let moments = Moments(evaluator.total(report.objectives))
        count = report.reward.count
        scored = report.reward.count { !$0.isNaN }
        rewardMean = moments.mean
        rewardStd = moments.deviation
        objectives = means(report.objectives)
    }

    package var values: [String: Any] {
        var object: [String: Any] = [
            "epoch": epoch, "evaluation_samples": count, "evaluation_scored": scored, "evaluation_reward_mean": rewardMean,
            "evaluation_reward_std": rewardStd,
        ]
        for (name, mean) in objectives { object["evaluation/" + name] = mean }
        return object
    }
}

/// A line about a problem that did not end the run.
struct Warning: MetricsLine {
    /// Epochs done before it.
    let epoch: Int
    let text: String

    var values: [String: Any] { ["epoch": epoch, "warning": text] }
}

/// Returns the mean of each objective by its name, without images that have no score.
func means(_ objectives: [ObjectiveScores]) -> [String: Double] {
    Dictionary(objectives.map { ($0.name, Moments($0.scores).mean) }) { first, _ in first }
}
