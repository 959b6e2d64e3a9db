import Foundation
import Images
import Support

/// report.html, the page of one run or of several side by side: one file that needs no other and no network.
///
/// The page holds data and a program, Resources/report.js, that draws them.
package final class RunPage {
    /// A run on the page.
    private struct Run: Encodable {
        let name: String
        let algorithm: String
        let model: String
        /// The command that goes on with it.
        let resume: String
        let epochs: Int
        /// Optimiser steps of an epoch.
        let updates: Int
        let settings: [Group]
        /// metrics.jsonl.
        let metrics: String
        /// evaluation/evaluation.json, as dag-eval writes it.
        let evaluation: String?
        let samples: Samples?
        /// Files that cannot be shown, and why.
        var problems: [String] = []
    }

    private struct Group: Encodable {
        let title: String
        let settings: [Value]
    }

    private struct Value: Encodable {
        let key, value: String
        let isDefault: Bool
    }

    /// The sample sheets, all of the same prompts and seeds, and as large as fits a page.
    private struct Samples: Encodable {
        let columns, count, height, width: Int
        let prompts: [String]
        let sheets: [Sheet]
    }

    private struct Sheet: Encodable {
        let epoch: Int
        let jpeg: Data
    }

    /// A page is for looking, a folder for counting: of longer runs it has every n-th line and sheet.
    private static let mostSteps = 2000
    private static let mostSheets = 40

    private let runs: [(folder: OutputFolder, configuration: TrainingConfiguration)]
    /// The sheets that the newest page shows, by file and time.
    private var known: [String: SampleSheet.Tiles] = [:]
    private var used: Set<String> = []

    /// The page of a run whose settings are known.
    init(_ folder: OutputFolder, _ configuration: TrainingConfiguration) { runs = [(folder, configuration)] }

    /// The page of runs, in the order in which they are to be compared.
    /// - Throws: `ConfigurationError` if a folder has no run or its settings cannot be read.
    package init(_ folders: [OutputFolder]) throws {
        runs = try folders.map { folder in
            guard folder.hasRun else { throw ConfigurationError("\(folder.url.relativePath): no run there (config.yaml is missing)") }
            return (folder, try TrainingConfiguration.resolve(file: folder.configuration.path))
        }
    }

    /// Reads the folders and makes the page.
    /// - Throws: `OutputError` if a folder's metrics.jsonl cannot be read.
    package func html() throws -> Data {
        struct Page: Encodable {
            let version: String
            let runs: [Run]
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        used = []
        let data = try encoder.encode(Page(version: DAGVersion.text, runs: runs.map(shown)))
        known = known.filter { used.contains($0.key) }
        // Between the tags of a script only "<" can be taken for the page's own.
        let json = String(decoding: data, as: UTF8.self).replacing("<", with: "\\u003c")
        let page = String(decoding: PackageResources.report_html, as: UTF8.self)
            .replacing("{{style}}", with: String(decoding: PackageResources.report_css, as: UTF8.self))
            .replacing("{{script}}", with: String(decoding: PackageResources.report_js, as: UTF8.self))
            .replacing("{{data}}", with: json)
        return Data(page.utf8)
    }

    private func shown(_ folder: OutputFolder, _ configuration: TrainingConfiguration) throws -> Run {
        var problems: [String] = []
        let samples = samples(of: folder, &problems)
        let evaluation = folder.url.appendingPathComponent("evaluation/evaluation.json")
        let path = folder.url.relativePath
        let names = runs.map(\.folder.url.standardizedFileURL.lastPathComponent)
        let name = folder.url.standardizedFileURL.lastPathComponent
        return Run(
            name: names.count { $0 == name } > 1 ? path : name, algorithm: configuration.algorithm.rawValue, model: configuration.model,
            resume: "dag-train --resume \(Self.shellWord(path))", epochs: configuration.epochs, updates: configuration.updatesPerEpoch,
            settings: SettingGroup.all.map { group in
                Group(
                    title: group.title,
                    settings: group.settings.map {
                        Value(key: $0.key, value: $0.text(of: configuration), isDefault: $0.isEqual(configuration, TrainingConfiguration()))
                    })
            },
            metrics: try Self.thinned(folder.readMetrics()), evaluation: try? String(contentsOf: evaluation, encoding: .utf8),
            samples: samples, problems: problems)
    }

    /// Returns every n-th line of those of optimiser steps, the last one too, and all others.
    private static func thinned(_ metrics: String) -> String {
        let lines = metrics.split(separator: "\n")
        let isStep = lines.map { $0.contains("\"transitions_per_second\":") }
        let steps = isStep.count { $0 }
        guard steps > mostSteps else { return metrics }
        let each = (steps + mostSteps - 1) / mostSteps
        var place = 0
        return zip(lines, isStep).filter { _, isStep in
            guard isStep else { return true }
            place += 1
            return (place - 1) % each == 0 || place == steps
        }.map(\.0).joined(separator: "\n")
    }

    /// Reads the sample sheets of a run; nil if there are none.
    private func samples(of folder: OutputFolder, _ problems: inout [String]) -> Samples? {
        let epochs = folder.sampledEpochs
        // The first, which is before training, and the last are among them.
        let count = min(epochs.count, Self.mostSheets)
        let shown = (0..<count).map { epochs[count == 1 ? 0 : $0 * (epochs.count - 1) / (count - 1)] }
        var first: SampleSheet.Tiles?
        var sheets: [Sheet] = []
        for epoch in shown {
            let file = folder.sampleSheet(epoch: epoch)
            do {
                let tiles = try tiles(of: file)
                guard (first?.height ?? tiles.height, first?.width ?? tiles.width) == (tiles.height, tiles.width) else {
                    throw OutputError("\(file.path): its images are not as large as those before")
                }
                first = first ?? tiles
                sheets.append(Sheet(epoch: epoch, jpeg: tiles.jpeg))
            } catch { problems.append("\(error)") }
        }
        guard let first else { return nil }
        var prompts: [Prompt] = []
        // Runs of older versions have no such file.
        if FileManager.default.fileExists(atPath: folder.samplePrompts.path) {
            do { prompts = try PromptFile.read(folder.samplePrompts.path) } catch { problems.append("\(error)") }
        }
        return Samples(
            columns: SampleSheet.columns, count: SampleSheet.count, height: first.height, width: first.width,
            prompts: prompts.map(\.text), sheets: sheets)
    }

    private func tiles(of sheet: URL) throws -> SampleSheet.Tiles {
        let time = try FileManager.default.attributesOfItem(atPath: sheet.path)[.modificationDate] as? Date
        let key = "\(sheet.path) \(time?.timeIntervalSince1970 ?? 0)"
        used.insert(key)
        if let tiles = known[key] { return tiles }
        let tiles = try SampleSheet.Tiles(sheet)
        known[key] = tiles
        return tiles
    }

    /// Returns a word of a command line.
    private static func shellWord(_ text: String) -> String {
        text.wholeMatch(of: /[A-Za-z0-9\/._+-]+/) != nil ? text : "'\(text.replacing("'", with: "'\\''"))'"
    }
}
