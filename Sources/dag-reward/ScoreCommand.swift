import ArgumentParser
import Commands
import Foundation
import Images
import Rewards

struct ScoreCommand: Command {
    static let configuration = CommandConfiguration(
        commandName: "score", abstract: "Scores picture files.",
        discussion: "Exit code 0 if every picture has its scores, 1 if one could not be scored.")

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
        let reward = try RewardSpecification(reward).load()
        let pictures = try images.map(ImageFile.read)
        let texts = try promptTexts()
        var rows = [Result<[Float], RewardError>?](repeating: nil, count: pictures.count)
        // One batch for each size.
        let groups = Dictionary(grouping: pictures.indices) { [pictures[$0].height, pictures[$0].width] }
        for (_, group) in groups.sorted(by: { $0.value[0] < $1.value[0] }) {
            let ids = group.map(UInt64.init)
            let scores = try reward.score(
                RewardBatch(
                    images: ImageBatch(concatenating: group.map { pictures[$0] }), prompts: group.map { texts[$0] }, sampleIDs: ids,
                    seeds: ids,
                    metadata: group.map { _ in metadata }))
            let width = reward.objectives.count
            for (place, index) in group.enumerated() {
                rows[index] =
                    scores.failures[place].map { .failure(RewardError($0)) }
                    ?? .success(Array(scores.values[place * width..<(place + 1) * width]))
            }
        }
        try show(rows.map { $0! }, reward: reward, prompts: texts)
        if rows.contains(where: { if case .failure = $0! { true } else { false } }) { throw ExitCode(1) }
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

    private func show(_ rows: [Result<[Float], RewardError>], reward: any Reward, prompts: [String]) throws {
        let names = reward.objectives.map(\.name)
        if json {
            let entries = zip(zip(images, prompts), rows).map { picture, row -> [String: Any] in
                var entry: [String: Any] = ["image": picture.0, "prompt": picture.1]
                switch row {
                case .success(let scores): entry["scores"] = Dictionary(uniqueKeysWithValues: zip(names, scores.map(Double.init)))
                case .failure(let error): entry["error"] = error.description
                }
                return entry
            }
            return say(try jsonText(["reward": reward.name, "images": entries]))
        }
        let cells = rows.map { row -> [String] in
            switch row {
            case .success(let scores): scores.map { String(format: "%.6g", $0) }
            case .failure(let error): ["cannot be scored: \(error)"]
            }
        }
        table([["picture"] + names] + zip(images, cells).map { [$0] + $1 })
    }
}

/// JSON with sorted keys.
func jsonText(_ object: Any) throws -> String {
    String(
        decoding: try JSONSerialization.data(withJSONObject: object, options: [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]),
        as: UTF8.self)
}

/// Prints rows in columns.
func table(_ rows: [[String]]) {
    let columns = rows.map(\.count).max() ?? 0
    let widths = (0..<columns).map { column in rows.filter { $0.count == columns }.map { $0[column].count }.max() ?? 0 }
    for row in rows {
        let cells = row.enumerated().map { column, cell in
            column < row.count - 1 ? cell.padding(toLength: max(widths[column], cell.count), withPad: " ", startingAt: 0) : cell
        }
        say(cells.joined(separator: "  "))
    }
}
