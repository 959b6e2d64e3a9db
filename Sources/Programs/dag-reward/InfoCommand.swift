import ArgumentParser
import CFunctionReward
import Commands
import Foundation
import Rewards

struct InfoCommand: Command {
    static let configuration = CommandConfiguration(
        commandName: "info", abstract: "Describes a reward: objectives, options, devices. No model is loaded.")

    @Argument(help: .reward) var reward: String
    @Flag(help: "Print JSON.") var json = false

    mutating func execute() throws {
        let specification = try RewardSpecification(reward)
        let description = try specification.open(opener: openLibrary).description
        if json {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
            return say(String(decoding: try encoder.encode(description), as: UTF8.self))
        }
        let batch = description.largestBatch == 0 ? "any number of images a call" : "at most \(description.largestBatch) images a call"
        say("\(description.name) \(description.version): \(description.detail)")
        table([
            ["  file", try specification.locate().path], ["  licence", description.license], ["  source", description.source],
            ["  devices", description.devices.joined(separator: ", ")],
            ["  calls", "\(description.threadMode.rawValue.replacingOccurrences(of: "_", with: " ")), \(batch)"],
            ["  scores", description.isDeterministic ? "the same each time" : "may differ from call to call"],
        ])
        say("objectives (the first is trained unless objective=NAME says otherwise)")
        table(description.objectives.map { ["  \($0.name)", $0.direction.rawValue, $0.detail] })
        say(description.options.isEmpty ? "options: none" : "options")
        table(description.options.map { ["  \($0.key)=\($0.defaultValue)", $0.detail] })
        if description.takesOtherOptions { say("  and others, which the reward checks itself") }
    }
}
