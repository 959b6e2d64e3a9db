import Foundation
import Support

/// Watches whether the trained score rises at the cost of diversity or of held-out rewards.
///
/// The last three epochs are compared with the first, whose images are the pretrained model's.
/// Each warning is given once.
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
    private static let window = 3

    private var first: Epoch?
    private var recent: [Epoch] = []
    private var warned: Set<String> = []

    /// Adds an epoch and returns new warnings.
    mutating func observe(_ epoch: Epoch) -> [String] {
        guard let first else {
            first = epoch
            return []
        }
        recent = (recent + [epoch]).suffix(Self.window)
        guard recent.count == Self.window else { return [] }
        func mean(_ value: (Epoch) -> Double?) -> Double { recent.reduce(0) { $0 + (value($1) ?? .nan) } / Double(Self.window) }
        let reward = mean { Double($0.reward.mean) }
        guard reward - Double(first.reward.mean) > Self.threshold * Double(first.reward.deviation) else { return [] }

        func number(_ value: Double) -> String { String(format: "%.4g", value) }
        let diversity = mean(\.diversity)
        var losses: [(name: String, text: String)] = []
        if diversity < Self.least * first.diversity {
            losses.append(("diversity", "diversity has fallen from \(number(first.diversity)) to \(number(diversity))"))
        }
        for (name, before) in first.heldOut.sorted(by: { $0.key < $1.key }) {
            let now = mean { ($0.heldOut[name]?.mean).map(Double.init) }
            let fall = (Double(before.mean) - now) / Double(before.deviation)
            guard fall > Self.threshold else { continue }
            losses.append((name, "the held-out reward \(name) has got worse by \(number(fall)) of its standard deviations"))
        }
        return losses.filter { warned.insert($0.name).inserted }.map { _, text in
            "the score has risen from \(number(Double(first.reward.mean))) to \(number(reward)) while \(text): look at the samples. "
                + "A smaller beta, the anchored target or fewer epochs give less of this"
        }
    }
}
