import ArgumentParser
import CommandSettings
import Commands
import DAGCore
import Foundation
import Rewards
import Support

@main
struct TrainCommand: Command {
    static let configuration = CommandConfiguration(
        commandName: "dag-train",
        abstract: "Post-trains a text-to-image diffusion model so that it samples in proportion to a reward.",
        discussion: """
            The model is a folder in diffusers layout (Stable Diffusion 1.x or 2.x, or a DDPM); the reward is anything that scores \
            images: a plugin (a shared library), a Python file, a function of a C library. The result is a LoRA that diffusers and ComfyUI load.

            EXAMPLES
              The shipped small model, minutes on a laptop:
                dag-train --model models/tiny-sd --reward-plugin libwarmth.so --prompts tiny-sd \\
                          --config examples/configs/tiny-sd-warmth.yaml --output runs/warmth
              Stable Diffusion v1.5 with the paper's settings:
                dag-train --model stable-diffusion-v1-5 --reward-plugin libjpeg_compressibility.so --prompts imagenet --output runs/jpeg
              Go on with a run that was stopped:
                dag-train --resume runs/jpeg
              A reward in Python, which may fail now and then:
                dag-train --model models/tiny-sd --prompts tiny-sd --reward-plugin my_reward.py,python=venv/bin/python,on_failure=drop \\
                          --output runs/mine

            A plugin without a slash is looked up in DAG_REWARD_PATH, beside this program, in the installed library folder, and in Python packages \
            (dag-reward list). \
            Rewards run in processes of their own. docs/reward-plugins.md shows how to write one.
            Ctrl-C saves and ends with exit code 130 (--resume repeats an optimiser step that was under way); a second Ctrl-C ends at once.
            """,
        version: DAGVersion.text)

    @OptionGroup(title: SettingGroup.subject.title) var subject: SettingFlags<Subject>
    @OptionGroup(title: SettingGroup.subject.title) var run: RunOptions
    @OptionGroup(title: SettingGroup.method.title) var method: SettingFlags<Method>
    @OptionGroup(title: SettingGroup.amounts.title) var amounts: SettingFlags<Amounts>
    @OptionGroup(title: SettingGroup.machine.title) var machine: SettingFlags<Machine>

    static func line(for error: any Error) -> String { ErrorReport.line(for: error, .flag) }
    static func isUsageError(_ error: any Error) -> Bool { ErrorReport.isUsageError(error) }

    /// The values of flags by key.
    private var settings: [String: [String]] {
        [subject.values, method.values, amounts.values, machine.values].reduce(into: [:]) { $0.merge($1) { first, _ in first } }
    }

    mutating func execute() throws {
        if run.estimate { return try estimate() }
        let others = LocalProcesses()
        defer { others.wait() }
        try train(beside: others)
    }

    /// Says what the run is going to cost.
    private func estimate() throws {
        for (key, isGiven) in [("resume", run.resume != nil), ("processes", run.processes != nil)] where isGiven {
            throw ConfigurationError("\(setting: "estimate") is for a new run of one process: leave \(setting: key) out")
        }
        let monitor = Monitor()
        monitor.onNote = say
        monitor.onWarning = { say("warning: \($0)") }
        for line in try TrainingSession.configuration(run, settings).estimate(monitor: monitor).lines { say(line.text(.flag)) }
    }

    private func train(beside others: LocalProcesses) throws {
        let team = try makeTeam(others)
        others.haveMet()
        do {
            let session = try team.together("settings") { try TrainingSession(run, settings: settings, team: team) }
            if try session.run() == .stopped { throw ExitCode(130) }
        } catch let error where !(team.isLeader || team.isBroken || error is ExitCode) {
            // Rank 0 says it.
            throw ExitCode(Self.isUsageError(error) ? 2 : 1)
        }
    }

    private func makeTeam(_ others: LocalProcesses) throws -> Team {
        let launched = try Team.launched()
        guard let processes = run.processes else { return launched }
        let count: Int
        switch processes {
        case .number(let number): count = number
        // The processes that this one starts have the same flag.
        case .auto where launched.count > 1: return launched
        case .auto: count = Launch.processes(for: try TrainingSession(run, settings: settings, team: launched).configuration)
        }
        guard count != launched.count else { return launched }
        guard launched.count == 1 else {
            throw ConfigurationError(
                "\(setting: "processes") is \(count), but a launcher has started \(launched.count): leave \(setting: "processes") out")
        }
        guard 1...1024 ~= count else { throw ConfigurationError("\(setting: "processes") must be from 1 to 1024, not \(count)") }
        return try Team.local(count, start: others.start)
    }
}

enum Method: FlagGroup { static let group = SettingGroup.method }
enum Amounts: FlagGroup { static let group = SettingGroup.amounts }
enum Machine: FlagGroup { static let group = SettingGroup.machine }

/// The value of `--processes`.
enum ProcessCount: ExpressibleByArgument {
    case auto
    case number(Int)

    init?(argument: String) {
        if argument == "auto" {
            self = .auto
        } else if let number = Int(argument) {
            self = .number(number)
        } else {
            return nil
        }
    }
}

/// The flags that are no settings.
struct RunOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Settings as YAML: these flags with underscores. Flags win over the file.", valueName: "file.yaml"))
    var config: String?
    @Option(help: ArgumentHelp("Continue the run in this output folder.", valueName: "dir"))
    var resume: String?
    @Option(help: ArgumentHelp("Where to write; a new or empty folder.", valueName: "dir"))
    var output: String?
    @Option(
        help: ArgumentHelp(
            "Processes on this machine that share the work; auto: one for each GPU or, without GPUs, CPU core. docs/scaling.md has several machines.",
            valueName: "n|auto"))
    var processes: ProcessCount?
    @Flag(help: "Only say what the run is going to cost: amounts, seconds and memory, by one pass of each kind on this machine.")
    var estimate = false
}
