import Rewards

/// The kinds of images whose shares are counted, by objectives of the rewards.
///
/// An objective that is the probability of a kind, or 1 for an image of it and else 0, makes a mode. An image
/// belongs to the mode whose objective is the largest, and to `other` if none is above one half.
package struct Modes: Sendable {
    /// The name of the mode of all other images.
    package static let other = "other"

    /// Names of the modes, `other` last.
    package let names: [String]
    /// Names of the modes' objectives, such as `warmth/red`, in the order of `names`.
    private let objectives: [String]

    /// Reads `[NAME=]OBJECTIVE,...`, such as `red,orange,yellow` or
    /// `bag=share_8,boot=cifar_classifier/share_9`.
    /// - Parameter known: names of all objectives, such as `warmth/red`.
    /// - Throws: `ConfigurationError` for an objective that no reward, or more than one, has, and for names
    ///   that recur.
    package init(_ text: String, of known: [String]) throws {
        var names: [String] = []
        var objectives: [String] = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let words = part.split(separator: "=", maxSplits: 1).map(String.init)
            guard let name = words.first, let objective = words.last else {
                throw ConfigurationError("\(setting: "modes") '\(text)': a name is missing; write OBJECTIVE,... or NAME=OBJECTIVE,...")
            }
            guard name != Self.other, !names.contains(name) else {
                let reason = name == Self.other ? "is the mode of all images that are in no other; leave it out" : "is there twice"
                throw ConfigurationError("\(setting: "modes") '\(text)': '\(name)' \(reason)")
            }
            let found = known.filter { $0 == objective || $0.hasSuffix("/" + objective) }
            guard found.count == 1 else {
                let reason = found.isEmpty ? "no reward has the objective" : "more than one reward has the objective"
                throw ConfigurationError("\(setting: "modes"): \(reason) '\(objective)'; there are \(known.joined(separator: ", "))")
            }
            names.append(name)
            objectives.append(found[0])
        }
        self.names = names + [Self.other]
        self.objectives = objectives
    }

    /// Returns each image's mode, as its place in `names`; nil for an image without scores.
    package func assign(_ scores: [ObjectiveScores]) -> [Int?] {
        let columns = objectives.map { scores[$0] ?? [] }
        return (columns.first ?? []).indices.map { image in
            let values = columns.map { $0[image] }
            guard !values.contains(where: \.isNaN), let largest = values.max() else { return nil }
            return largest > 0.5 ? values.firstIndex(of: largest) : objectives.count
        }
    }
}
