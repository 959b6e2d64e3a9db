/// An error that says in one line what is wrong and what to do.
package protocol OneLineError: Error, CustomStringConvertible, Sendable {}

extension String {
    /// The text in one line: line ends and control characters, which a terminal takes for commands, become spaces.
    package var oneLine: String {
        var line = String.UnicodeScalarView()
        for scalar in unicodeScalars {
            switch scalar.properties.generalCategory {
            case .control, .lineSeparator, .paragraphSeparator: if line.last != " " { line.append(" ") }
            default: line.append(scalar)
            }
        }
        while line.last == " " { line.removeLast() }
        return String(line)
    }

    /// The text with spaces after it, at least `width` characters long.
    package func padded(_ width: Int) -> String { self + String(repeating: " ", count: max(0, width - count)) }
}
