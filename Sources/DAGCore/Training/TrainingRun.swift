import CFunctionReward
import Foundation
import Rewards
import Support

/// A run in its output folder, from settings to a trainer that is ready: the way that dag-train and the C API have in common.
public struct TrainingRun {
    /// The settings, as resolved.
    public var configuration: TrainingConfiguration
    /// Where it writes.
    public let output: OutputFolder
    private let isContinued: Bool
    private var claim: OutputFolder.Claim?

    /// A new run. Throws `ConfigurationError` for settings that cannot work, `OutputError` if something is in the folder.
    public init(_ configuration: TrainingConfiguration, output: OutputFolder) throws {
        try configuration.check()
        try output.checkVacant()
        (self.configuration, self.output, isContinued) = (configuration, output, false)
    }

    /// Goes on with the run in `output`.
    /// - Parameter change: makes the settings to go on with from those of the run. Throws `ConfigurationError` if the run cannot have them.
    public init(continuing output: OutputFolder, change: (TrainingConfiguration) throws -> TrainingConfiguration = { $0 }) throws {
        guard FileManager.default.fileExists(atPath: output.configuration.path) else {
            throw ConfigurationError("--resume \(output.url.path): no run there (config.yaml is missing)")
        }
        let before = try TrainingConfiguration.resolve(file: output.configuration.path)
        configuration = try change(before)
        try configuration.check()
        try configuration.check(continuing: before)
        (self.output, isContinued) = (output, true)
    }

    /// Makes the folder this run's, from now on.
    private mutating func claimOutput() throws {
        guard claim == nil else { return }
        claim = try output.claim()
        // Another trainer may have been there since this run was made.
        if !isContinued { try output.checkVacant() }
    }

    /// Loads rewards and model, and puts a continued run where its newest checkpoint stands. Nothing is written but empty folders. Throws
    /// `OutputError` if another trainer is using the folder.
    /// - Parameters:
    ///   - rewards: those that the settings do not name.
    ///   - isWanted: whether the trainer is still wanted; asked while rewards load.
    public mutating func prepare(
        rewards: [(RewardSpecification, any Reward)] = [], isWanted: @escaping @Sendable () -> Bool = { true }
    ) throws -> Trainer {
        // A new folder is made only when all else is well; nobody waits for a model to hear that the folder is taken.
        if FileManager.default.fileExists(atPath: output.url.path) { try claimOutput() }
        func load(_ name: String) throws -> PromptSet? { try name.isEmpty ? nil : PromptSet.load(name) }
        let (prompts, evaluationPrompts) = (try load(configuration.prompts), try load(configuration.evaluationPrompts))
        let monitor = Monitor()
        monitor.shouldStop = { !isWanted() }
        let named = try configuration.rewardPlugin.map { text in
            let specification = try RewardSpecification(text)
            return (specification, try specification.load(monitor: monitor, opener: openLibrary) as any Reward)
        }
        let trainer = try Trainer(
            configuration, evaluator: RewardEvaluator(named + rewards), prompts: prompts ?? .none, evaluationPrompts: evaluationPrompts,
            output: output)
        try output.prepare()
        try claimOutput()
        if isContinued {
            // A run that was stopped before its first checkpoint starts anew.
            if Checkpoint.exists(in: output) { try trainer.resume(from: output) } else { try output.truncateMetrics(to: 0) }
        }
        return trainer
    }
}

extension Trainer {
    /// What comes before the first epoch: the self-checks of a new run, config.yaml, and the sample sheet of the untrained model.
    public func begin() throws {
        let isNew = stepsDone == 0
        if isNew { for line in try selfCheck() { onNote("check: \(line)") } }
        try output.writeConfiguration(configuration)
        if isNew { try saveSamples() }
    }
}
