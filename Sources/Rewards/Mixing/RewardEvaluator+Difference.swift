import Foundation

extension RewardEvaluator {
    /// Stands between the rewards of a fingerprint.
    static let separator = " + "

    /// What differs between the rewards of another fingerprint and these, for people; nil: nothing.
    public func difference(from other: String) -> String? {
        guard other != fingerprint else { return nil }
        let (theirs, ours) = (other.components(separatedBy: Self.separator), fingerprint.components(separatedBy: Self.separator))
        guard theirs.count == ours.count else { return "`\(other)` then, `\(fingerprint)` now" }
        return zip(theirs, ours).filter { $0 != $1 }.map { before, after in
            let (before, after) = (Self.words(before), Self.words(after))
            let changes = after.difference(from: before)
            return "\(after.dropFirst().first ?? "reward"): \(Self.list(changes.removals)) then, \(Self.list(changes.insertions)) now"
        }.joined(separator: "; ")
    }

    /// The use that is made of a reward; its name; the words of its own fingerprint.
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
