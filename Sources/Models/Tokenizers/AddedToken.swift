/// A token that is matched in the text as a whole, before it is split into words.
struct AddedToken: Sendable {
    let scalars: [Unicode.Scalar]
    let id: Int
    /// Whether it is matched in the normalised text, so in upper
    /// and lower case, rather than in the text as written.
    let normalized: Bool
}

extension AddedToken {
    /// Cuts text at every token of a list, from left to right,
    /// at the longest where several begin at one place.
    ///
    /// - Parameters:
    ///   - tokens: the tokens, longest first.
    ///   - token: is called with the id of each token that is found, in text order.
    ///   - stretch: is called with the text between tokens, never empty, in text order.
    static func split(
        _ text: [Unicode.Scalar], at tokens: [AddedToken], token: (Int) -> Void, stretch: ([Unicode.Scalar]) -> Void
    ) {
        var start = 0
        var position = 0
        while position < text.count {
            guard let match = tokens.first(where: { text[position...].starts(with: $0.scalars) }) else {
                position += 1
                continue
            }
            if start < position { stretch(Array(text[start..<position])) }
            token(match.id)
            position += match.scalars.count
            start = position
        }
        if start < position { stretch(Array(text[start...])) }
    }
}
