/// A value on its way into or out of a C function.
enum CValue: CustomStringConvertible, Equatable {
    case integer(Int64)
    case floating(Double)
    case pointer(UnsafeMutableRawPointer?)

    /// Reads a number as C writes it, in decimal or hexadecimal digits; nil for any other word.
    init?(number word: String) {
        let digits = word.drop { "+-".contains($0) }
        guard let first = digits.first, first.isNumber || first == "." else { return nil }
        let isHexadecimal = digits.lowercased().hasPrefix("0x")
        let text = isHexadecimal ? word.prefix(word.count - digits.count) + digits.dropFirst(2) : word[...]
        let radix = isHexadecimal ? 16 : 10
        if let number = Int64(text, radix: radix) ?? UInt64(text, radix: radix).map(Int64.init(bitPattern:)) {
            self = .integer(number)
        } else if let number = Double(word) {
            self = .floating(number)
        } else {
            return nil
        }
    }

    var description: String {
        switch self {
        case .integer(let number): "\(number)"
        case .floating(let number): "\(number)"
        case .pointer(let pointer): pointer == nil ? "NULL" : "a pointer"
        }
    }

    /// Whether a result has exactly the value of a number in a program; a pointer counts as 0 or 1.
    func isEqual(to wanted: CValue) -> Bool {
        switch (self, wanted) {
        case (.integer(let one), .integer(let other)): one == other
        case (.integer(let one), .floating(let other)): Double(one) == other
        case (.floating(let one), .integer(let other)): one == Double(other)
        case (.floating(let one), .floating(let other)): one == other
        case (.pointer(let pointer), _): CValue.integer(pointer == nil ? 0 : 1).isEqual(to: wanted)
        case (_, .pointer): false
        }
    }

    /// The value as a score.
    var score: Float {
        switch self {
        case .integer(let number): Float(number)
        case .floating(let number): Float(number)
        case .pointer(let pointer): pointer == nil ? 0 : 1
        }
    }
}
