/// A C type, as far as it matters for calling a function: how a value lies in a register.
enum CType: Equatable {
    case void, float, double, pointer
    case integer(bytes: Int, isSigned: Bool)

    /// Reads a type as a C programmer writes it, without the name: `const uint8_t *`, `unsigned long`; nil
    /// for an unknown one.
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
            let sizes = ["char": 1, "short": 2, "long": 8]
            self = .integer(bytes: words.compactMap { sizes[$0] }.min() ?? 4, isSigned: !words.contains("unsigned"))
        }
    }

    /// Returns whether a number of a program keeps its value in this type; -1 and the like may stand for large
    /// unsigned numbers.
    func holds(_ number: CValue) -> Bool {
        switch (self, number) {
        case (.float, .floating(let number)): Float(number).isFinite
        case (.double, .floating(let number)): number.isFinite
        case (.integer(let bytes, let isSigned), .integer(let number)) where bytes < 8:
            (-1 << (8 * bytes - 1)..<1 << (isSigned ? 8 * bytes - 1 : 8 * bytes)).contains(number)
        default: true
        }
    }

    /// The types that can be written, for messages.
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
