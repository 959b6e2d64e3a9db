import Commands
import Foundation
import Rewards
import Support

/// JSON with sorted keys.
func jsonText(_ object: Any) throws -> String {
    String(
        decoding: try JSONSerialization.data(withJSONObject: object, options: [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]),
        as: UTF8.self)
}

/// Prints rows in columns, each cell in one line whatever a reward wrote there.
func table(_ rows: [[String]]) {
    let rows = rows.map { $0.map(\.oneLine) }
    let columns = rows.map(\.count).max() ?? 0
    let widths = (0..<columns).map { column in rows.filter { $0.count == columns }.map { $0[column].count }.max() ?? 0 }
    for row in rows {
        let cells = row.enumerated().map { column, cell in column < row.count - 1 ? cell.padded(widths[column]) : cell }
        say(cells.joined(separator: "  "))
    }
}
