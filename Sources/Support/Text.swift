/// An error whose description is one line: the culprit and the remedy.
package protocol OneLineError: Error, CustomStringConvertible, Sendable {}

extension String {
    /// The text in one line: line ends and control characters, which a terminal may execute, become spaces.
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

    /// Returns the text followed by spaces, at least `width` characters long.
    package func padded(_ width: Int) -> String { self + String(repeating: " ", count: max(0, width - count)) }
}
