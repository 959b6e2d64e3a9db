/// What an encoder of limited length does not see.
package enum CutTexts {
    /// Returns a line about texts that are cut, and about those that become the same by it; nil if none is cut.
    /// - Parameters:
    ///   - texts: prompts, numbered from 1 in the line.
    ///   - length: the number of tokens that the encoder takes, with the begin and the end token.
    ///   - tokens: returns the tokens of a text alone, not cut.
    package static func line(_ texts: [String], length: Int, tokens: (String) -> [Int]) -> String? {
        let most = length - 2
        var isCut: Set<String> = []
        var first: String?
        var places: [[Int]: [String: Int]] = [:]
        for (index, text) in texts.enumerated() {
            let ids = tokens(text)
            if ids.count > most, isCut.insert(text).inserted, first == nil { first = text }
            let kept = Array(ids.prefix(most))
            if places[kept]?[text] == nil { places[kept, default: [:]][text] = index + 1 }
        }
        guard let first else { return nil }
        let same = places.values.filter { group in group.count > 1 && group.keys.contains(where: isCut.contains) }
            .map { $0.values.sorted() }.sorted { $0[0] < $1[0] }
        var line = "\(isCut.count) of \(Set(texts).count) different prompts have more than \(most) tokens "
        line += "(\(length) with the begin and end tokens); the rest is cut off, in '\(first.prefix(60))...' first"
        guard !same.isEmpty else { return line }
        let shown = same.prefix(3).map { $0.map(String.init).joined(separator: ", ") }.joined(separator: "; ")
        return line + "; the same after that: prompts \(shown)" + (same.count > 3 ? " and \(same.count - 3) groups more" : "")
    }
}

extension CLIPTokenizer {
    /// Returns a line about texts that `encode` cuts; nil if it cuts none.
    package func cutLine(_ texts: [String]) -> String? { CutTexts.line(texts, length: maxLength, tokens: tokenize) }
}
