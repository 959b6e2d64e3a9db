/// A C type as far as calling a function takes: what goes into a register.
enum CType: Equatable {
    case void, float, double, pointer
    case integer(bytes: Int, isSigned: Bool)

    /// Reads a type as a C programmer writes it, without the name: `const uint8_t *`, `unsigned long`. nil for one that is not known.
    init?(_ words: [String]) {
        let words = words.filter { !["const", "struct", "enum", "volatile", "restrict", "extern", "static"].contains($0) }
        if words.contains("*") {
            self = .pointer
        } else if let type = Self.named[words.joined(separator: " ")] {
            self = type
        } else {
            guard !words.isEmpty, words.allSatisfy({ ["signed", "unsigned", "char", "short", "int", "long"].contains($0) }) else {
                return nil
            }
            let bytes = words.contains("char") ? 1 : words.contains("short") ? 2 : words.contains("long") ? 8 : 4
            self = .integer(bytes: bytes, isSigned: !words.contains("unsigned"))
        }
    }

    /// What can be written.
    static let known =
        "void, float, double, bool, char, short, int, long, long long, with signed or unsigned, int8_t to int64_t, uint8_t to uint64_t, "
        + "size_t, ssize_t, ptrdiff_t, intptr_t, uintptr_t, and pointers to anything"

    private static let named: [String: CType] = {
        var types: [String: CType] = ["void": .void, "float": .float, "double": .double]
        for bytes in [1, 2, 4, 8] {
            types["int\(bytes * 8)_t"] = .integer(bytes: bytes, isSigned: true)
            types["uint\(bytes * 8)_t"] = .integer(bytes: bytes, isSigned: false)
        }
        for name in ["size_t", "uintptr_t"] { types[name] = .integer(bytes: 8, isSigned: false) }
        for name in ["ssize_t", "ptrdiff_t", "intptr_t"] { types[name] = .integer(bytes: 8, isSigned: true) }
        for name in ["bool", "_Bool"] { types[name] = .integer(bytes: 1, isSigned: false) }
        return types
    }()
}

/// One call of a C function: `int bad = TessBaseAPIInit3(void *api, const char *path = NULL, const char *language = "eng")`.
struct CCall {
    /// Where an argument comes from.
    enum Source: Equatable, CustomStringConvertible {
        case name(String)
        case number(CValue)
        case text(String)
        case null

        var description: String {
            switch self {
            case .name(let name): "`\(name)`"
            case .number(let number): "\(number)"
            case .text(let text): "\"\(text)\""
            case .null: "NULL"
            }
        }
    }

    struct Argument: Equatable {
        let type: CType
        /// Whether it is a pointer to something that is not const.
        let isWritable: Bool
        let source: Source
    }

    let text: String
    let function: String
    let result: CType
    /// What the result is called; "" for none. A number is what it has to be.
    let resultName: String
    let arguments: [Argument]

    /// The calls of a program: prototypes separated by semicolons. Throws `RewardError` that quotes what it cannot read.
    static func program(_ text: String) throws -> [CCall] {
        var tokens = try Tokens(text)
        var calls: [CCall] = []
        while !tokens.isAtEnd {
            calls.append(try CCall(&tokens))
            if !tokens.isAtEnd { try tokens.expect(";") }
        }
        return calls
    }

    private init(_ tokens: inout Tokens) throws {
        let start = tokens.position
        var words = tokens.words()
        if tokens.take("=") {
            guard let name = words.popLast() else { throw tokens.problem("a name before =") }
            resultName = name
            guard let symbol = tokens.word() else { throw tokens.problem("the name of a function after =") }
            function = symbol
        } else {
            guard let symbol = words.popLast(), symbol != "*" else { throw tokens.problem("the prototype of a function") }
            (function, resultName) = (symbol, "")
        }
        result = try Self.type(words, in: tokens)
        try tokens.expect("(")
        var arguments: [Argument] = []
        while !tokens.take(")") {
            if !arguments.isEmpty { try tokens.expect(",") }
            var words = tokens.words()
            if words == ["void"], arguments.isEmpty { continue }
            guard words.count > 1, let name = words.popLast(), name != "*" else {
                throw tokens.problem("a type and a name: the name says what is passed")
            }
            let type = try Self.type(words, in: tokens)
            let isWritable = type == .pointer && !words.prefix { $0 != "*" }.contains("const")
            arguments.append(
                Argument(type: type, isWritable: isWritable, source: tokens.take("=") ? try tokens.literal() : .name(name)))
        }
        self.arguments = arguments
        text = tokens.text(from: start)
    }

    private static func type(_ words: [String], in tokens: Tokens) throws -> CType {
        guard let type = CType(words) else {
            throw tokens.problem("a type; `\(words.joined(separator: " "))` is none that is known (structs are passed by pointer)")
        }
        return type
    }
}

/// The text of a program, cut into words, strings and signs.
private struct Tokens {
    private let source: String
    private var tokens: [(text: String, start: String.Index, end: String.Index)] = []
    private(set) var position = 0

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

    mutating func take(_ sign: String) -> Bool {
        guard next == sign else { return false }
        position += 1
        return true
    }

    mutating func expect(_ sign: String) throws {
        guard take(sign) else { throw problem("`\(sign)`") }
    }

    mutating func word() -> String? {
        guard let next, let first = next.first, Self.isWord(first) else { return nil }
        position += 1
        return next
    }

    /// Words and asterisks, as they stand in a declaration.
    mutating func words() -> [String] {
        var words: [String] = []
        while let word = take("*") ? "*" : word() { words.append(word) }
        return words
    }

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

    func text(from start: Int) -> String { start < position ? String(source[tokens[start].start..<tokens[position - 1].end]) : "" }

    func problem(_ wanted: String) -> RewardError {
        let place = next.map { "at `\($0)`" } ?? "at its end"
        return RewardError("`\(source)` \(place): expected \(wanted)")
    }
}
