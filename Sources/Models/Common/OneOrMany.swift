/// A configuration value that published files give as one number or as a list.
public enum OneOrMany: Decodable, Sendable {
    case one(Int)
    case many([Int])

    /// Decodes a number or a list of numbers.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if let value = try? container.decode(Int.self) { self = .one(value) } else { self = .many(try container.decode([Int].self)) }
        let valid =
            switch self {
            case .one(let value): value > 0
            case .many(let values): !values.isEmpty && values.allSatisfy { $0 > 0 }
            }
        guard valid else { throw DecodingError.dataCorruptedError(in: container, debugDescription: "must be above zero") }
    }

    /// The value for block `index`.
    public subscript(index: Int) -> Int {
        switch self {
        case .one(let value): value
        case .many(let values): values[min(index, values.count - 1)]
        }
    }
}
