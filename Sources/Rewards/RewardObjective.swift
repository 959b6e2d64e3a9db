/// One number that a reward gives each image.
public struct RewardObjective: Sendable, Equatable, Codable {
    /// Whether more is better.
    public enum Direction: String, Sendable, Codable {
        case maximize, minimize

        /// 1 or -1: training maximises.
        var sign: Float { self == .maximize ? 1 : -1 }
    }

    /// Name in logs and messages.
    public let name: String
    /// Whether more is better.
    public let direction: Direction
    /// One line, with unit and range.
    public let detail: String

    private enum CodingKeys: String, CodingKey {
        case name, direction
        case detail = "description"
    }

    /// - Parameter detail: one line with unit and range.
    public init(_ name: String, _ direction: Direction = .maximize, detail: String = "") {
        self.name = name
        self.direction = direction
        self.detail = detail
    }
}
