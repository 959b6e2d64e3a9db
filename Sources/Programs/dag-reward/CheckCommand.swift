import ArgumentParser
import Commands
import Foundation
import Rewards
import Support

struct CheckCommand: Command {
    static let configuration = CommandConfiguration(
        commandName: "check", abstract: "Checks that a reward keeps the rules: each check in a process of its own, a line for each.",
        discussion: """
            Plugins are checked against all of dag_reward.h, and like Python files and C functions for sane scores. docs/dag-reward.md explains each \
            check. Settings such as weights=FILE are handed to the reward. The exit code is 0 if no check failed, else 1.
            """)

    @Argument(help: .reward) var reward: String
    @Flag(help: "Print JSON.") var json = false
    @Option(help: ArgumentHelp("Only these checks; may be repeated.", valueName: "name")) var only: [String] = []
    @Option(help: ArgumentHelp("Seconds that a check may take.", valueName: "s")) var timeLimit = 120.0
    /// Runs this check in this process: the program calls itself so.
    @Option(help: .hidden) var single: String?

    mutating func validate() throws {
        let known = Checks.all.map(\.name)
        if let unknown = (only + [single].compactMap { $0 }).first(where: { !known.contains($0) }) {
            throw ValidationError("there is no check \(unknown); there are \(known.joined(separator: ", "))")
        }
        if !(timeLimit > 0 && timeLimit < 1e6) {
            throw ValidationError("--time-limit must be above 0 and below 1000000 seconds, not \(timeLimit)")
        }
    }

    mutating func execute() throws {
        let specification = try RewardSpecification(reward)
        if let single { return try Checks.runHere(single, specification) }
        let isPlugin = try specification.locate().kind == .plugin
        let chosen = Checks.all.filter { (isPlugin || !$0.isNative) && (only.isEmpty || only.contains($0.name)) }
        guard !chosen.isEmpty else { throw RewardError("reward \(reward): none of these checks is for rewards of this kind") }
        var results: [(check: Check, outcome: CheckOutcome)] = []
        for check in chosen {
            let outcome = try Checks.runInProcess(check, reward: reward, timeLimit: timeLimit)
            results.append((check, outcome))
            if !json { Self.show(check, outcome) }
        }
        let failed = results.count { $0.outcome.status == .fail }
        if json {
            say(
                try jsonText(
                    results.map {
                        ["name": $0.check.name, "what": $0.check.what, "status": $0.outcome.status.rawValue, "detail": $0.outcome.detail]
                    }))
        } else {
            let warned = results.count { $0.outcome.status == .warn }
            say("\(results.count - failed) of \(results.count) checks passed" + (warned > 0 ? ", \(warned) with a warning" : ""))
        }
        if failed > 0 { throw ExitCode(1) }
    }

    private static func show(_ check: Check, _ outcome: CheckOutcome) {
        let mark = outcome.status.rawValue.uppercased().padded(4)
        say("\(mark)  \(check.name.padded(22))  \(outcome.detail.isEmpty ? check.what : outcome.detail.oneLine)")
    }
}
