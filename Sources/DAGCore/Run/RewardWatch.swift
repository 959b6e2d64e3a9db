import Foundation
import Support

/// Watches whether there is anything to learn, and whether the trained score rises at the cost of diversity
/// or of held-out rewards.
struct RewardWatch: Codable, Equatable {
    /// The watched numbers of an epoch: the trained score, and held-out ones by name. Larger is better.
    struct Epoch: Codable, Equatable {
        let reward: Moments
        let heldOut: [String: Moments]
        let diversity: Double
    }

    /// The least rise or fall that counts, in standard deviations of the pretrained model's scores.
    private static let threshold = 0.5
    /// The least fraction of the first diversity that is in order.
    private static let least = 0.7
    /// Epochs over which held-out rewards are averaged, since the images of one epoch tell little of them.
    private static let window = 3

    /// The first epoch, whose images are the pretrained model's.
    private var first: Epoch?
    private var recent: [Epoch] = []
    /// Keys of the warnings that were given, in their order.
    private var warned: [String] = []

    /// Returns a warning unless one with this key was given before.
    mutating func once(_ key: String, _ warning: String) -> String? {
        guard !warned.contains(key) else { return nil }
        warned.append(key)
        return warning
    }

    private mutating func forget(_ key: String) { warned.removeAll { $0 == key } }

    /// Looks at the scores of an epoch that is to be trained on.
    /// - Parameters:
    ///   - scores: of the final images [N]; NaN for a dropped trajectory.
    ///   - rewards: names of the trained objectives.
    /// - Returns: a warning if all scores are the same, once until they are not.
    mutating func observe(scores: [Float], of rewards: [String], by algorithm: AlgorithmName) -> String? {
        let moments = Moments(scores)
        let count = scores.count { !$0.isNaN }
        guard count > 1, moments.deviation == 0 else {
            forget("scores")
            return nil
        }
        let lesson = algorithm.usesBeta ? "trains on, but prefers none of them" : "learns nothing from them"
        let names = rewards.isEmpty ? "rewards of weight 0" : rewards.joined(separator: " + ")
        return once(
            "scores",
            "\(names) gave all \(count) images the same score, \(Self.text(moments.mean)): \(algorithm.rawValue) \(lesson). "
                + "Stop here, or use a reward that tells them apart")
    }

    /// Looks at an optimiser step.
    /// - Returns: a warning if the policy had no gradient, once until it has one, unless the scores are known to
    ///   be the cause.
    mutating func observe(_ step: StepSums) -> String? {
        guard let norm = step.policyGradNorm else { return nil }
        guard norm == 0 else {
            forget("gradient")
            return nil
        }
        guard !step.loss.isEmpty, !warned.contains("scores") else { return nil }
        let isClipped = step.metrics["clip_fraction"].map { step.mean($0) == 1 } ?? false
        let cause = isClipped ? ", since every importance ratio is outside the clip range" : ""
        return once("gradient", "the LoRA had no gradient and learned nothing\(cause)")
    }

    /// Looks at an epoch that was trained on.
    ///
    /// The newest epoch's diversity, and the last three epochs' held-out rewards, are compared with the first
    /// epoch's.
    /// - Parameter advice: settings that give less of what is warned of.
    /// - Returns: warnings of a rise that has its cost, once for each cost.
    mutating func observe(_ epoch: Epoch, advice: String) -> [String] {
        guard let first else {
            first = epoch
            return []
        }
        recent = (recent + [epoch]).suffix(Self.window)
        var costs: [(key: String, epochs: [Epoch], text: String)] = []
        if epoch.diversity < Self.least * first.diversity {
            let text = "diversity has fallen from \(Self.text(first.diversity)) to \(Self.text(epoch.diversity))"
            costs.append(("diversity", [epoch], text))
        }
        for (name, before) in first.heldOut.sorted(by: { $0.key < $1.key }) where recent.count == Self.window {
            let fall = before.mean - Self.mean(recent) { $0.heldOut[name]?.mean ?? .nan }
            guard fall > Self.threshold * before.deviation else { continue }
            let text = "the held-out reward \(name) has got worse by \(Self.text(fall)), at a deviation of \(Self.text(before.deviation))"
            costs.append((name, recent, text))
        }
        return costs.compactMap { key, epochs, text in
            let reward = Self.mean(epochs, \.reward.mean)
            guard reward - first.reward.mean > Self.threshold * first.reward.deviation else { return nil }
            let rise = "the score has risen from \(Self.text(first.reward.mean)) to \(Self.text(reward))"
            return once(key, "\(rise) while \(text): look at the samples. \(advice) give less of this")
        }
    }

    private static func mean(_ epochs: [Epoch], _ value: (Epoch) -> Double) -> Double {
        epochs.reduce(0) { $0 + value($1) } / Double(epochs.count)
    }

    private static func text(_ value: Double) -> String { String(format: "%.4g", value) }
}

extension TrainingConfiguration {
    /// The settings, of those with an effect in this run, that keep the policy nearer to the pretrained model.
    var restraints: String {
        guard algorithm.usesBeta else { return "A larger base KL coefficient, a smaller learning rate or fewer epochs" }
        return target == .anchored ? "A smaller beta or fewer epochs" : "A smaller beta, the anchored target or fewer epochs"
    }
}
