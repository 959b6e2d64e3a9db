import Support
import Foundation
import Rewards

/// What one optimiser step reports: a line of metrics.jsonl.
public struct StepMetrics: Sendable {
    /// Epoch and optimiser step, counted from zero; the step over the whole run.
    public let epoch, step: Int
    /// Sum over rewards of weight times trained objective, without normalisation, on the epoch's final pictures.
    public let rewardMean, rewardStd: Double
    /// Mean over the epoch's pictures of each objective of each plugin.
    public let objectives: [String: Double]
    /// How much the epoch's pictures differ: see `ImageBatch.diversity`; of pictures of the same prompt where prompts recur enough.
    public let diversity: Double
    /// KL(P_theta || P_base) of a trajectory from the same noise, nats: how far the epoch's policy is from the pretrained model. An estimate.
    public let baseDivergence: Double
    /// Mean loss of a transition, and its parts.
    public let loss, squaredResidual, regularization: Double
    /// Largest |rho - 1| and the share of importance ratios outside the clip range.
    public let ratioDeviation, clipFraction: Double
    /// Gradient norms before clipping.
    public let policyGradNorm, flowGradNorm: Double
    /// The exponent of the reward in this epoch.
    public let beta: Double
    /// Trajectories sampled so far.
    public let trajectories: Int
    /// Trajectories of this epoch that are left out because a reward could not score a picture, and transitions of this step, theirs
    /// among them.
    public let dropped, droppedTransitions: Int
    /// Scores that were assumed for pictures that a reward could not score: of the epoch's rollout and of this step.
    public let imputed: Int
    /// Transitions trained a second since the epoch began, sampling included.
    public let transitionsPerSecond: Double

    /// The line for metrics.jsonl: JSON with sorted keys.
    public func json() throws -> Data {
        var object: [String: Any] = [
            "epoch": epoch, "step": step, "reward_mean": rewardMean, "reward_std": rewardStd, "diversity": diversity,
            "base_kl": baseDivergence, "loss": loss, "squared_residual": squaredResidual,
            "regularization": regularization, "ratio_deviation": ratioDeviation, "clip_fraction": clipFraction,
            "policy_grad_norm": policyGradNorm, "flow_grad_norm": flowGradNorm, "beta": beta, "trajectories": trajectories,
            "dropped": dropped, "dropped_transitions": droppedTransitions, "imputed": imputed,
            "transitions_per_second": (transitionsPerSecond * 10).rounded() / 10,
        ]
        for (name, mean) in objectives { object["reward/" + name] = mean }
        return try metricsLine(object)
    }
}

/// Scores of pictures of fixed prompts and seeds.
public struct Evaluation: Sendable {
    /// Number of pictures.
    public let count: Int
    /// Sum over rewards of weight times trained objective, without normalisation.
    public let rewardMean, rewardStd: Double
    /// Pictures among them that have a reward; the others could not be scored.
    public let scored: Int
    /// Mean of each objective of each plugin.
    public let objectives: [String: Double]

    init(_ report: RewardReport, of evaluator: RewardEvaluator) {
        let moments = Moments(evaluator.total(report.objectives))
        count = report.reward.count
        scored = report.reward.count { !$0.isNaN }
        (rewardMean, rewardStd) = (Double(moments.mean), Double(moments.deviation))
        objectives = report.objectives.means
    }

    /// The line for metrics.jsonl.
    /// - Parameter epoch: epochs that were complete.
    public func json(epoch: Int) throws -> Data {
        var object: [String: Any] = [
            "epoch": epoch, "evaluation_samples": count, "evaluation_scored": scored, "evaluation_reward_mean": rewardMean,
            "evaluation_reward_std": rewardStd,
        ]
        for (name, mean) in objectives { object["evaluation/" + name] = mean }
        return try metricsLine(object)
    }
}

extension [ObjectiveScores] {
    /// The mean of each objective, by its name.
    var means: [String: Double] { Dictionary(uniqueKeysWithValues: map { ($0.name, Double(Moments($0.scores).mean)) }) }
}

private func metricsLine(_ object: [String: Any]) throws -> Data {
    // JSON has no NaN: a diverged run says null.
    let finite = object.mapValues { value -> Any in (value as? Double).map { $0.isFinite } == false ? NSNull() : value }
    return try JSONSerialization.data(withJSONObject: finite, options: [.sortedKeys, .withoutEscapingSlashes]) + Data("\n".utf8)
}
