import Rewards

/// One call of a C function, such as
/// `int bad = TessBaseAPIInit3(void *api, const char *path = NULL, const char *language = "eng")`.
struct CCall {
    /// The origin of an argument.
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

    /// The call as it was written.
    let text: String
    let function: String
    let result: CType
    /// The name of the result; "" for none. If it is a number, the result must be equal to that.
    let resultName: String
    let arguments: [Argument]

    /// Reads the calls of a program: prototypes separated by semicolons.
    /// - Throws: `RewardError` that quotes the part that cannot be read.
    static func program(_ text: String) throws -> [CCall] {
        var tokens = try CTokens(text)
        var calls: [CCall] = []
        while !tokens.isAtEnd {
            calls.append(try CCall(&tokens))
            if !tokens.isAtEnd { try tokens.expect(";") }
        }
        return calls
    }

    private init(_ tokens: inout CTokens) throws {
        let start = tokens.position
        var words = tokens.words()
        if tokens.take("=") {
            guard let name = words.popLast() else { throw tokens.problem("a name before =") }
            resultName = name
            guard let symbol = tokens.word() else { throw tokens.problem("the name of a function after =") }
            function = symbol
        } else {
            guard let symbol = words.popLast(), symbol != "*" else { throw tokens.problem("the prototype of a function") }
            function = symbol
            resultName = ""
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

    private static func type(_ words: [String], in tokens: CTokens) throws -> CType {
        guard let type = CType(words) else {
            throw tokens.problem("a type; `\(words.joined(separator: " "))` is unknown (structs are passed by pointer)")
        }
        return type
    }
}
