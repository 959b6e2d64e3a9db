import ArgumentParser
import Commands
import Foundation
import Images
import Rewards

struct ScoreCommand: Command {
    static let configuration = CommandConfiguration(
        commandName: "score", abstract: "Scores picture files.",
        discussion: """
            With objective=NAME that score alone is shown. A picture that cannot be scored says why in its row, and the exit code is 1, unless \
            on_failure=drop or on_failure=impute:NUMBER says that this is all right.
            """)

    @Argument(help: .reward) var reward: String
    @Argument(help: "PNG or JPEG files, of any sizes.") var images: [String]
    @Option(help: "What the pictures should show.") var prompt: String?
    @Option(help: ArgumentHelp("A text file with a prompt a line, one for each picture.", valueName: "file")) var prompts: String?
    @Option(help: ArgumentHelp("A JSON object for the reward, the same for all pictures.", valueName: "json")) var metadata = "{}"
    @Flag(help: "Print JSON.") var json = false

    mutating func validate() throws {
        if prompt != nil, prompts != nil { throw ValidationError("--prompt and --prompts exclude each other") }
        guard (try? JSONSerialization.jsonObject(with: Data(metadata.utf8))) is [String: Any] else {
            throw ValidationError("--metadata \(metadata) is not a JSON object, such as {\"animal\": \"cat\"}")
        }
        if images.isEmpty { throw ValidationError("no pictures; name at least one PNG or JPEG file") }
    }

    mutating func execute() throws {
        let specification = try RewardSpecification(reward)
        var lenient = specification
        if lenient.onFailure == .fail { lenient.onFailure = .drop }  // which pictures are at fault is to be seen
        let evaluator = try RewardEvaluator([(lenient, lenient.load())])
        let pictures = try images.map(ImageFile.read)
        let texts = try promptTexts()
        var rows = [Row?](repeating: nil, count: pictures.count)
        // One batch for each size.
        let groups = Dictionary(grouping: pictures.indices) { [pictures[$0].height, pictures[$0].width] }
        for (_, group) in groups.sorted(by: { $0.value[0] < $1.value[0] }) {
            let ids = group.map(UInt64.init)
            let report = try evaluator.score(
                RewardBatch(
                    images: ImageBatch(concatenating: group.map { pictures[$0] }), prompts: group.map { texts[$0] }, sampleIDs: ids,
                    seeds: ids, metadata: group.map { _ in metadata }))
            for (place, index) in group.enumerated() {
                rows[index] = Row(
                    scores: evaluator.objectiveNames.map { report.objectives[$0]![place] }, failure: report.failures[place])
            }
        }
        // The queue lets go of the rewards, so that this function ends them, and with them the last that they print.
        evaluator.abandonAndWait()
        try show(rows.map { $0! }, evaluator.objectiveNames, specification, prompts: texts)
        if specification.onFailure == .fail, rows.contains(where: { $0!.failure != nil }) { throw ExitCode(1) }
    }

    /// What is known of a picture.
    private struct Row {
        /// Of every objective; NaN where there is none.
        let scores: [Float]
        /// Why it has none.
        let failure: String?
    }

    private func promptTexts() throws -> [String] {
        guard let prompts else { return images.map { _ in prompt ?? "" } }
        guard let text = try? String(contentsOfFile: prompts, encoding: .utf8) else {
            throw RewardError("--prompts \(prompts): cannot be read as UTF-8 text")
        }
        var lines = text.split(omittingEmptySubsequences: false) { $0.isNewline }.map(String.init)
        if lines.last == "" { lines.removeLast() }
        guard lines.count == images.count else {
            throw RewardError("--prompts \(prompts): has \(lines.count) lines for \(images.count) pictures; give one each")
        }
        return lines
    }

    /// - Parameter names: of all objectives, such as `warmth/red`.
    private func show(_ rows: [Row], _ names: [String], _ specification: RewardSpecification, prompts: [String]) throws {
        let parts = names.map { $0.split(separator: "/", maxSplits: 1).map(String.init) }
        let shown = names.indices.filter { specification.objective == nil || specification.objective == parts[$0][1] }
        // The objective that a number is assumed for.
        var assumed: Float?
        if case .impute(let value) = specification.onFailure { assumed = value }
        if json {
            let entries = zip(zip(images, prompts), rows).map { picture, row -> [String: Any] in
                var entry: [String: Any] = ["image": picture.0, "prompt": picture.1]
                entry["error"] = row.failure
                let scores = shown.map { (parts[$0][1], row.failure == nil ? row.scores[$0] : $0 == shown[0] ? assumed : nil) }
                let known = scores.compactMap { name, score in score.map { (name, Double($0)) } }
                if !known.isEmpty { entry["scores"] = Dictionary(uniqueKeysWithValues: known) }
                return entry
            }
            return say(try jsonText(["reward": parts[0][0], "images": entries]))
        }
        let cells = rows.map { row -> [String] in
            guard let failure = row.failure else { return shown.map { String(format: "%.6g", row.scores[$0]) } }
            guard let assumed else { return [failure] }
            return shown.map { $0 == shown[0] ? String(format: "%.6g (assumed)", assumed) : "-" }
        }
        table([["picture"] + shown.map { parts[$0][1] }] + zip(images, cells).map { [$0] + $1 })
    }
}
