import ArgumentParser
import CFunctionReward
import Commands
import Foundation
import Images
import Rewards
import Support

struct ScoreCommand: Command {
    static let configuration = CommandConfiguration(
        commandName: "score", abstract: "Scores image files.",
        discussion: """
            With objective=NAME only that score is shown. The row of an image that cannot be scored says why, and the exit code is 1, unless \
            on_failure=drop or on_failure=impute:NUMBER allows it.
            """)

    @Argument(help: .reward) var reward: String
    @Argument(help: "PNG or JPEG files, of any sizes.") var images: [String]
    @Option(help: "What the images should show.") var prompt: String?
    @Option(help: ArgumentHelp("A file of prompts, one for each image: text, CSV, TSV or JSON.", valueName: "file")) var prompts: String?
    @Option(
        help: ArgumentHelp("A JSON object for the reward, for all images whose prompt has none in the file.", valueName: "json"))
    var metadata = "{}"
    @Flag(help: "Print JSON.") var json = false

    mutating func validate() throws {
        if prompt != nil, prompts != nil { throw ValidationError("--prompt and --prompts exclude each other") }
        guard (try? JSONSerialization.jsonObject(with: Data(metadata.utf8))) is [String: Any] else {
            throw ValidationError("--metadata \(metadata) is not a JSON object, such as {\"animal\": \"cat\"}")
        }
        if images.isEmpty { throw ValidationError("no images; name at least one PNG or JPEG file") }
    }

    mutating func execute() throws {
        let specification = try RewardSpecification(reward)
        var lenient = specification
        if lenient.onFailure == .fail { lenient.onFailure = .drop }  // the table shows which images failed
        let evaluator = try RewardEvaluator([(lenient, lenient.load(opener: openLibrary))])
        let read = try images.map(ImageFile.read)
        let chosen = try chosenPrompts()
        var rows = [Row?](repeating: nil, count: read.count)
        // One batch for each size.
        let groups = Dictionary(grouping: read.indices) { [read[$0].height, read[$0].width] }
        for (_, group) in groups.sorted(by: { $0.value[0] < $1.value[0] }) {
            let ids = group.map(UInt64.init)
            let report = try evaluator.score(
                RewardBatch(
                    images: ImageBatch(concatenating: group.map { read[$0] }), prompts: group.map { chosen[$0] }, sampleIDs: ids,
                    seeds: ids))
            for (place, index) in group.enumerated() {
                rows[index] = Row(
                    scores: report.objectives.map { $0.scores[place] }, failure: report.failures[place])
            }
        }
        // The queue lets go of the rewards, so that this function ends them, and with them the last that they print.
        evaluator.abandonAndWait()
        try show(rows.map { $0! }, evaluator.objectiveNames, specification, prompts: chosen.map(\.text))
        if specification.onFailure == .fail, rows.contains(where: { $0!.failure != nil }) { throw ExitCode(1) }
    }

    /// The outcome for an image.
    private struct Row {
        /// The scores of all objectives; NaN where there is none.
        let scores: [Float]
        /// The reason why it has none.
        let failure: String?
    }

    /// Returns the prompt of each image.
    private func chosenPrompts() throws -> [Prompt] {
        guard let prompts else { return images.map { _ in Prompt(prompt ?? "", metadata: metadata) } }
        let found = try PromptFile.read(prompts)
        guard found.count == images.count else {
            throw PromptError("--prompts \(prompts): has \(found.count) prompts for \(images.count) images; give one each")
        }
        return found.map { $0.metadata == "{}" ? Prompt($0.text, metadata: metadata) : $0 }
    }

    /// Prints a row for each image.
    /// - Parameter names: of all objectives, such as `warmth/red`.
    private func show(_ rows: [Row], _ names: [String], _ specification: RewardSpecification, prompts: [String]) throws {
        let parts = names.map { $0.split(separator: "/", maxSplits: 1).map(String.init) }
        let shown = names.indices.filter { specification.objective == nil || specification.objective == parts[$0][1] }
        // The number that is assumed for the trained objective of an image that failed.
        var assumed: Float?
        if case .impute(let value) = specification.onFailure { assumed = value }
        if json {
            let entries = zip(zip(images, prompts), rows).map { image, row -> [String: Any] in
                var entry: [String: Any] = ["image": image.0, "prompt": image.1]
                entry["error"] = row.failure
                // Of a failed image only the trained objective has a number, if one is assumed.
                let known: [(Int, Float)] =
                    row.failure == nil ? shown.map { ($0, row.scores[$0]) } : assumed.map { [(shown[0], $0)] } ?? []
                if !known.isEmpty {
                    entry["scores"] = Dictionary(uniqueKeysWithValues: known.map { (parts[$0][1], Double($1)) })
                }
                return entry
            }
            return say(try jsonText(["reward": parts[0][0], "images": entries]))
        }
        let cells = rows.map { row -> [String] in
            guard let failure = row.failure else { return shown.map { String(format: "%.6g", row.scores[$0]) } }
            guard let assumed else { return [failure] }
            return shown.map { $0 == shown[0] ? String(format: "%.6g (assumed)", assumed) : "-" }
        }
        table([["image"] + shown.map { parts[$0][1] }] + zip(images, cells).map { [$0] + $1 })
    }
}
