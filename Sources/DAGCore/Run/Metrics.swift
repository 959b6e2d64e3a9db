import Support
import Foundation
import Rewards

/// The report of one optimiser step: a line of metrics.jsonl.
package struct StepMetrics: Sendable {
    /// Epoch and optimiser step, counted from zero; the step over the whole run.
    package let epoch, step: Int
    /// Sum over rewards of weight times trained objective, without normalisation, on the epoch's final pictures.
    package let rewardMean, rewardStd: Double
    /// Mean over the epoch's pictures of each objective of each plugin.
    package let objectives: [String: Double]
    /// How much the epoch's pictures differ: see `ImageBatch.diversity`; of pictures of the same prompt where prompts recur enough.
    package let diversity: Double
    /// KL(P_theta || P_base) of a trajectory from the same noise, nats: how far the epoch's policy is from the pretrained model. An estimate.
    package let baseDivergence: Double
    /// Mean loss of a transition.
    package let loss: Double
    /// Means over transitions of the algorithm's own numbers, by their keys, such as `squared_residual` or `clip_fraction`.
    package let algorithmMetrics: [String: Double]
    /// Largest |rho - 1|.
    package let ratioDeviation: Double
    /// Gradient norms before clipping; zero for a flow that the algorithm has not.
    package let policyGradNorm, flowGradNorm: Double
    /// The exponent of the reward in this epoch.
    package let beta: Double
    /// Trajectories sampled so far.
    package let trajectories: Int
    /// Trajectories of this epoch that are left out because a reward could not score a picture, and transitions of this step, theirs
    /// among them.
    package let dropped, droppedTransitions: Int
    /// Scores that were assumed for pictures that a reward could not score: of the epoch's rollout and of this step.
    package let imputed: Int
    /// Transitions trained a second since the epoch began, sampling included.
    package let transitionsPerSecond: Double

    /// The line for metrics.jsonl: JSON with sorted keys.
    package func json() throws -> Data {
        var object: [String: Any] = [
            "epoch": epoch, "step": step, "reward_mean": rewardMean, "reward_std": rewardStd, "diversity": diversity,
            "base_kl": baseDivergence, "loss": loss, "ratio_deviation": ratioDeviation, "policy_grad_norm": policyGradNorm,
            "flow_grad_norm": flowGradNorm, "beta": beta, "trajectories": trajectories,
            "dropped": dropped, "dropped_transitions": droppedTransitions, "imputed": imputed,
            "transitions_per_second": (transitionsPerSecond * 10).rounded() / 10,
        ]
        object.merge(algorithmMetrics) { first, _ in first }
        for (name, mean) in objectives { object["reward/" + name] = mean }
        return try metricsLine(object)
    }
}

/// Scores of pictures of fixed prompts and seeds.
package struct Evaluation: Sendable {
    /// Number of pictures.
    package let count: Int
    /// Sum over rewards of weight times trained objective, without normalisation.
    package let rewardMean, rewardStd: Double
    /// Pictures among them that have a reward; the others could not be scored.
    package let scored: Int
    /// Mean of each objective of each plugin.
    package let objectives: [String: Double]

    init(_ report: RewardReport, of evaluator: RewardEvaluator) {
        let moments = Moments(evaluator.total(report.objectives))
        count = report.reward.count
        scored = report.reward.count { !$0.isNaN }
        rewardMean = Double(moments.mean)
        rewardStd = Double(moments.deviation)
        objectives = means(report.objectives)
    }

    /// The line for metrics.jsonl.
    /// - Parameter epoch: epochs that were complete.
    package func json(epoch: Int) throws -> Data {
        var object: [String: Any] = [
            "epoch": epoch, "evaluation_samples": count, "evaluation_scored": scored, "evaluation_reward_mean": rewardMean,
            "evaluation_reward_std": rewardStd,
        ]
        for (name, mean) in objectives { object["evaluation/" + name] = mean }
        return try metricsLine(object)
    }
}

/// Returns the mean of each objective by its name, without images that have no score.
func means(_ objectives: [ObjectiveScores]) -> [String: Double] {
    Dictionary(objectives.map { ($0.name, Double(Moments($0.scores).mean)) }) { first, _ in first }
}

private func metricsLine(_ object: [String: Any]) throws -> Data {
    // JSON has no NaN: a diverged run says null.
    let finite = object.mapValues { value -> Any in (value as? Double).map { $0.isFinite } == false ? NSNull() : value }
    return try JSONSerialization.data(withJSONObject: finite, options: [.sortedKeys, .withoutEscapingSlashes]) + Data("\n".utf8)
}
