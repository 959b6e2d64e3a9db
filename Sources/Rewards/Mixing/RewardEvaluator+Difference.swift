import Foundation

extension RewardEvaluator {
    /// The text between the rewards of a fingerprint.
    static let separator = " + "

    /// Describes, for an error message, how the rewards of another fingerprint differ from these; nil: they
    /// are the same.
    package func difference(from other: String) -> String? {
        guard other != fingerprint else { return nil }
        let theirs = other.components(separatedBy: Self.separator)
        let ours = fingerprint.components(separatedBy: Self.separator)
        guard theirs.count == ours.count else { return "`\(other)` then, `\(fingerprint)` now" }
        return zip(theirs, ours).filter { $0 != $1 }.map { theirs, ours in
            let after = Self.words(ours)
            let changes = after.difference(from: Self.words(theirs))
            return "\(after.dropFirst().first ?? "reward"): \(Self.list(changes.removals)) then, \(Self.list(changes.insertions)) now"
        }.joined(separator: "; ")
    }

    /// Splits a reward's part of a fingerprint: the use that is made of it; its name; the words of its own
    /// fingerprint.
    private static func words(_ term: String) -> [Substring] {
        guard let of = term.range(of: " of ") else { return [term[...]] }
        return [term[..<of.lowerBound]] + term[of.upperBound...].split(separator: " ", omittingEmptySubsequences: false)
    }

    private static func list(_ changes: [CollectionDifference<Substring>.Change]) -> String {
        let words = changes.map { change in
            switch change {
            case .insert(_, let word, _), .remove(_, let word, _): String(word)
            }
        }
        return words.isEmpty ? "nothing" : "`\(words.joined(separator: " "))`"
    }
}
