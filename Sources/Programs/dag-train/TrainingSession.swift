import Commands
import DAGCore
import Foundation
import Rewards
import Support

/// An invocation of dag-train: resolves the settings, runs the trainer and shows its progress.
final class TrainingSession {
    private var training: TrainingRun
    /// The settings of the run, as resolved.
    var configuration: TrainingConfiguration { training.configuration }

    /// - Parameters:
    ///   - settings: values of flags by key.
    ///   - team: the processes of the run.
    init(_ options: RunOptions, settings: [String: [String]], team: Team) throws {
        if let folder = try options.resume.map(OutputFolder.init) ?? Self.folderOfFailedAttempt(options, team) {
            training = try TrainingRun(continuing: folder, team: team) { try Self.configuration(options, settings, base: $0) }
            if let output = options.output.map(OutputFolder.init), output.url.standardizedFileURL != folder.url.standardizedFileURL {
                throw ConfigurationError(
                    """
                    \(setting: "resume") continues in its own folder: leave \(setting: "output") out, \
                    or copy \(folder.url.path) first
                    """)
            }
        } else {
            let configuration = try Self.configuration(options, settings)
            guard let path = options.output else {
                throw ConfigurationError("\(setting: "output") is missing: a new folder for the LoRA, metrics, samples and checkpoints")
            }
            training = try TrainingRun(configuration, output: OutputFolder(path), team: team)
        }
    }

    /// Puts the settings of the file and of the flags over `base`.
    /// - Throws: `ConfigurationError`.
    static func configuration(
        _ options: RunOptions, _ settings: [String: [String]], base: TrainingConfiguration = .init()
    ) throws -> TrainingConfiguration {
        let configuration = try TrainingConfiguration.resolve(base: base, file: options.config, overrides: settings)
        try configuration.validateReward()
        return configuration
    }

    /// The folder of the run that a launcher starts anew after a failure, if that has come so far.
    private static func folderOfFailedAttempt(_ options: RunOptions, _ team: Team) throws -> OutputFolder? {
        guard Launch.isRestart, let folder = options.output.map(OutputFolder.init) else { return nil }
        return try team.leads("output") { folder.hasRun } ? folder : nil
    }

    enum Ending { case finished, stopped }

    /// Trains until the end or until a signal.
    func run() throws -> Ending {
        let configuration = training.configuration
        let output = training.output
        let isLeader = training.team.isLeader
        let monitor = Monitor()
        let display = ProgressDisplay(total: configuration.epochs * configuration.updatesPerEpoch, isSilent: !isLeader)
        monitor.onProgress = display.progress
        monitor.onNote = display.line
        monitor.onWarning = { display.line("warning: \($0)") }
        let trainer = try training.prepare(monitor: monitor)
        let isNew = trainer.stepsDone == 0
        trainer.onStep = display.step
        display.start(done: trainer.stepsDone)
        let signals = onInterrupt(saying: isLeader ? "stopping and saving (again to end at once)" : nil, monitor.cancel)
        defer { signals.forEach { $0.cancel() } }
        display.line(trainer.summary)
        do {
            try trainer.begin()
            let before = isNew && configuration.evaluationSamples > 0 ? try trainer.evaluate() : nil
            try trainer.run()
            let after = configuration.evaluationSamples > 0 ? try trainer.evaluate() : nil
            display.finish(before: before, after: after)
        } catch is Cancelled {
            try trainer.writeConfiguration()
            try trainer.save()
            display.line("stopped and saved; continue with: dag-train --resume \(output.url.relativePath)")
            return .stopped
        }
        display.line("LoRA: \(output.lora.relativePath)")
        if configuration.emaDecay > 0 { display.line("its average: \(output.averagedLora.relativePath)") }
        return .finished
    }
}
