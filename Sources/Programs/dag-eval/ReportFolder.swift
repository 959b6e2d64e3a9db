import DAGCore
import Foundation
import Images

/// The folder of an evaluation: evaluation.json, evaluation.csv, evaluation.html, and a sheet of images of
/// each sampler. Files of an earlier one are replaced.
struct ReportFolder {
    /// Images of a sheet.
    private static let sheetSize = 64

    private let url: URL
    /// The page that shows all of it.
    var page: URL { url.appendingPathComponent("evaluation.html") }

    /// Makes the folder.
    /// - Throws: `OutputError` if it cannot be made or written.
    init(_ path: String) throws {
        url = URL(fileURLWithPath: path)
        try? FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
        guard FileManager.default.isWritableFile(atPath: url.path) else {
            throw OutputError("\(setting: "output") \(path): is no folder that can be written; choose another place")
        }
    }

    /// Writes all files.
    /// - Throws: `OutputError`, `ImageError`.
    func write(_ report: EvaluationReport, _ configuration: TrainingConfiguration) throws {
        try OutputFolder.writeAtomically(report.json(configuration), to: url.appendingPathComponent("evaluation.json"))
        try OutputFolder.writeAtomically(Data(report.csv.utf8), to: url.appendingPathComponent("evaluation.csv"))
        var sheets: [(name: String, png: Data)] = []
        for (column, images) in zip(report.columns, try report.sheets(Self.sheetSize)) {
            let file = url.appendingPathComponent(column.name.replacing(" ", with: "-") + ".png")
            try images.writeSheet(columns: 8, to: file)
            sheets.append((column.name, try Data(contentsOf: file)))
        }
        try OutputFolder.writeAtomically(Data(ReportPage(report, configuration, sheets).html.utf8), to: page)
    }
}
