import Rewards

/// The text of a program, cut into words, strings and signs.
struct CTokens {
    private let source: String
    private var tokens: [(text: String, start: String.Index, end: String.Index)] = []
    /// The index of the next token.
    private(set) var position = 0

    /// - Throws: `RewardError` if a quote lacks its other half.
    init(_ source: String) throws {
        self.source = source
        var index = source.startIndex
        while index < source.endIndex {
            let start = index
            let character = source[index]
            index = source.index(after: index)
            if character.isWhitespace { continue }
            if character == "\"" {
                guard let end = source[index...].firstIndex(of: "\"") else {
                    throw RewardError("`\(source)`: a quote lacks its other half")
                }
                index = source.index(after: end)
            } else if Self.isWord(character) {
                while index < source.endIndex, Self.isWord(source[index]) { index = source.index(after: index) }
            }
            tokens.append((String(source[start..<index]), start, index))
        }
    }

    private static func isWord(_ character: Character) -> Bool { character.isLetter || character.isNumber || "_.+-".contains(character) }

    var isAtEnd: Bool { position == tokens.count }

    private var next: String? { isAtEnd ? nil : tokens[position].text }

    /// Takes the next token if it is this one.
    mutating func take(_ sign: String) -> Bool {
        guard next == sign else { return false }
        position += 1
        return true
    }

    /// - Throws: `RewardError` unless the next token is this one.
    mutating func expect(_ sign: String) throws {
        guard take(sign) else { throw problem("`\(sign)`") }
    }

    /// Takes the next token if it is a word or a number.
    mutating func word() -> String? {
        guard let next, let first = next.first, Self.isWord(first) else { return nil }
        position += 1
        return next
    }

    /// Takes words and asterisks, as they stand in a declaration.
    mutating func words() -> [String] {
        var words: [String] = []
        while let word = take("*") ? "*" : word() { words.append(word) }
        return words
    }

    /// Takes a constant.
    /// - Throws: `RewardError` if the next token is none.
    mutating func literal() throws -> CCall.Source {
        guard let next, next.first == "\"" || next.first.map(Self.isWord) == true else {
            throw problem("a number, NULL or \"text\" after =")
        }
        position += 1
        if next.first == "\"" { return .text(String(next.dropFirst().dropLast())) }
        if next == "NULL" { return .null }
        guard let number = CValue(number: next) else {
            throw RewardError("`\(source)`: `\(next)` is neither a number nor NULL nor \"text\"")
        }
        return .number(number)
    }

    /// The source from a token to the last one taken.
    func text(from start: Int) -> String { start < position ? String(source[tokens[start].start..<tokens[position - 1].end]) : "" }

    /// The error that something else was expected here.
    func problem(_ wanted: String) -> RewardError {
        let place = next.map { "at `\($0)`" } ?? "at its end"
        return RewardError("`\(source)` \(place): expected \(wanted)")
    }
}
