/// A configuration value that is one number in some published files and a list in others.
package enum OneOrMany: Decodable, Sendable {
    case one(Int)
    case many([Int])

    /// Decodes a number or a list of numbers.
    /// - Throws: `DecodingError` if a number is not above zero, or the list is empty.
    package init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if let value = try? container.decode(Int.self) { self = .one(value) } else { self = .many(try container.decode([Int].self)) }
        let valid =
            switch self {
            case .one(let value): value > 0
            case .many(let values): !values.isEmpty && values.allSatisfy { $0 > 0 }
            }
        guard valid else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "must be above zero")
        }
    }

    /// Returns the value for block `index`.
    package subscript(index: Int) -> Int {
        switch self {
        case .one(let value): value
        case .many(let values): values[min(index, values.count - 1)]
        }
    }
}
