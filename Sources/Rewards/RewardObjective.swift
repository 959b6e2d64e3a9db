/// One number that a reward gives each image.
package struct RewardObjective: Sendable, Equatable, Codable {
    /// Whether more is better.
    package enum Direction: String, Sendable, Codable {
        case maximize, minimize

        /// 1 or -1: training maximises.
        var sign: Float { self == .maximize ? 1 : -1 }
    }

    /// Name in logs and messages.
    package let name: String
    /// Whether more is better.
    package let direction: Direction
    /// One line, with unit and range.
    package let detail: String

    private enum CodingKeys: String, CodingKey {
        case name, direction
        case detail = "description"
    }

    /// - Parameter detail: one line with unit and range.
    package init(_ name: String, _ direction: Direction = .maximize, detail: String = "") {
        self.name = name
        self.direction = direction
        self.detail = detail
    }
}
