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

    /// Returns the name that was probably meant by this one: the most alike, at most three letters and half of
    /// this text away; nil if there is none.
    package func nearest(in names: [String]) -> String? {
        let most = Swift.min(3, count / 2)
        // A text may be long; the distance is never below the difference in length.
        let distances = names.filter { abs($0.count - count) <= most }.map { (name: $0, distance: distance(to: $0)) }
        return distances.filter { $0.distance <= most }.min { $0.distance < $1.distance }?.name
    }

    /// Returns the Levenshtein distance: insertions, deletions and substitutions that turn one text into the
    /// other.
    private func distance(to other: String) -> Int {
        var row = Array(0...other.count)
        for (i, a) in enumerated() {
            var diagonal = row[0]
            row[0] = i + 1
            for (j, b) in other.enumerated() {
                let substituted = diagonal + (a == b ? 0 : 1)
                diagonal = row[j + 1]
                row[j + 1] = Swift.min(substituted, row[j] + 1, diagonal + 1)
            }
        }
        return row[other.count]
    }

    /// Returns the text followed by spaces, at least `width` characters long.
    package func padded(_ width: Int) -> String { self + String(repeating: " ", count: max(0, width - count)) }
}
