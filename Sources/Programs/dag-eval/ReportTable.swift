import DAGCore
import Foundation
import Support

/// All numbers of an evaluation, a column for each sampler.
struct ReportTable {
    /// The first row has the columns' names, the first column the keys of the numbers.
    let rows: [[String]]

    init(_ report: EvaluationReport) {
        let columns = report.columns
        rows = [[""] + columns.map(\.name)] + report.keys.map { key in [key] + columns.map { column in column[key].map(Self.cell) ?? "" } }
    }

    /// The table as lines.
    var text: String {
        let widths = rows[0].indices.map { column in (rows.map { $0[column].count }.max() ?? 0) + 2 }
        return rows.map { row in
            String(zip(row, widths).map { $0.padded($1) }.joined().reversed().drop { $0 == " " }.reversed())
        }.joined(separator: "\n")
    }

    /// The number with the digits that its error leaves, and the error with one or two.
    private static func cell(_ estimate: Estimate) -> String {
        guard estimate.value.isFinite else { return "-" }
        guard let error = estimate.standardError, error.isFinite else { return String(format: "%.4g", estimate.value) }
        let digits = error > 0 ? Int(min(5, max(0, 1 - log10(error).rounded(.down)))) : 3
        return String(format: "%.\(digits)f ± %.\(digits)f", estimate.value, error)
    }
}
