import Foundation

/// A value of a JSON file.
package enum JSONValue: Decodable, Equatable, Sendable {
    case null
    case flag(Bool)
    case number(Double)
    case text(String)
    case list([JSONValue])
    case object([String: JSONValue])

    /// Decodes any JSON value.
    /// - Throws: `DecodingError` if there is none.
    package init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if container.decodeNil() {
            self = .null
        } else if let value = try? container.decode(Bool.self) {
            self = .flag(value)
        } else if let value = try? container.decode(Double.self) {
            self = .number(value)
        } else if let value = try? container.decode(String.self) {
            self = .text(value)
        } else if let value = try? container.decode([JSONValue].self) {
            self = .list(value)
        } else {
            self = .object(try container.decode([String: JSONValue].self))
        }
    }

    /// The text, if the value is one.
    package var text: String? { if case .text(let text) = self { text } else { nil } }

    /// The number, if the value is one.
    package var number: Double? { if case .number(let number) = self { number } else { nil } }

    /// Reads an object as Python's json module would.
    /// - Returns: nil if the data are not a JSON object.
    package static func object(in data: Data) -> [String: JSONValue]? {
        try? JSONDecoder().decode([String: JSONValue].self, from: standard(data))
    }

    /// Replaces NaN, Infinity and -Infinity by strings: Python writes them, but they are not JSON.
    static func standard(_ data: Data) -> Data {
        let bytes = [UInt8](data)
        var result: [UInt8] = []
        result.reserveCapacity(bytes.count)
        var place = 0
        var isInText = false
        while place < bytes.count {
            let byte = bytes[place]
            let word = isInText || !starts.contains(byte) ? nil : words.first { bytes[place...].starts(with: $0) }
            if let word { result += [quote] + word + [quote] }
            let length = word?.count ?? (isInText && byte == UInt8(ascii: "\\") ? 2 : 1)
            if word == nil { result += bytes[place..<min(place + length, bytes.count)] }
            if byte == quote { isInText.toggle() }
            place += length
        }
        return Data(result)
    }

    private static let quote = UInt8(ascii: "\"")
    private static let words = ["NaN", "Infinity", "-Infinity"].map { Array($0.utf8) }
    private static let starts = words.map { $0[0] }
}

extension JSONValue: CustomStringConvertible {
    /// The value as JSON, texts without escapes.
    package var description: String {
        switch self {
        case .null: "null"
        case .flag(let value): "\(value)"
        case .number(let value): Int(exactly: value).map(String.init) ?? "\(value)"
        case .text(let value): "\"\(value)\""
        case .list(let values): "[" + values.map(\.description).joined(separator: ", ") + "]"
        case .object(let values): "{" + values.sorted { $0.key < $1.key }.map { "\"\($0.key)\": \($0.value)" }.joined(separator: ", ") + "}"
        }
    }
}

extension JSONValue: ExpressibleByBooleanLiteral, ExpressibleByFloatLiteral, ExpressibleByIntegerLiteral, ExpressibleByStringLiteral,
    ExpressibleByArrayLiteral
{
    /// Makes true or false.
    package init(booleanLiteral value: Bool) { self = .flag(value) }
    /// Makes a number.
    package init(floatLiteral value: Double) { self = .number(value) }
    /// Makes a whole number.
    package init(integerLiteral value: Int) { self = .number(Double(value)) }
    /// Makes a text.
    package init(stringLiteral value: String) { self = .text(value) }
    /// Makes a list.
    package init(arrayLiteral elements: JSONValue...) { self = .list(elements) }
}

/// The values that a class of the reference library takes for keys that its configuration file lacks.
///
/// A key with `null` is not absent: its value is null.
struct ReferenceDefaults {
    /// The keys that are implemented here.
    let implemented: [String: JSONValue]
    /// The keys that are not implemented: a file may only have this value, or a list of it.
    let fixed: [String: JSONValue]

    init(_ implemented: [String: JSONValue], fixed: [String: JSONValue] = [:]) {
        self.implemented = implemented
        self.fixed = fixed
    }

    /// Refuses values that would give other results than in the reference library.
    /// - Throws: `ModelError` that names the file, the key and the value.
    func validate(_ file: String, _ found: [String: JSONValue]) throws {
        for (key, expected) in fixed.sorted(by: { $0.key < $1.key }) {
            guard let value = found[key], value != expected else { continue }
            if case .list(let values) = value, values.allSatisfy({ $0 == expected }) { continue }
            throw ModelError("\(file): \(key) \(value) is not supported, only \(expected)")
        }
    }
}
