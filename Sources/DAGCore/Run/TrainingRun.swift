import CFunctionReward
import Foundation
import Models
import Rewards
import Support
import Tensors

/// A run in its output folder, from settings to a trainer that is ready; shared by dag-train and the C API.
package struct TrainingRun {
    /// The settings, as resolved.
    package var configuration: TrainingConfiguration
    /// The folder to write to.
    package let output: OutputFolder
    /// The settings that a continued run had before; nil for a new one.
    private let before: TrainingConfiguration?
    private var claim: OutputFolder.Claim?

    /// Makes a new run.
    /// - Throws: `ConfigurationError` for bad settings, `OutputError` if the folder is not empty.
    package init(_ configuration: TrainingConfiguration, output: OutputFolder) throws {
        try configuration.validate()
        try output.checkVacant()
        self.configuration = configuration
        self.output = output
        before = nil
    }

    /// Continues the run in `output`.
    /// - Parameter change: makes new settings from those of the run.
    /// - Throws: `ConfigurationError` if there is no run or it cannot have these settings.
    package init(continuing output: OutputFolder, change: (TrainingConfiguration) throws -> TrainingConfiguration = { $0 }) throws {
        guard FileManager.default.fileExists(atPath: output.configuration.path) else {
            throw ConfigurationError("\(setting: "resume") \(output.url.path): no run there (config.yaml is missing)")
        }
        let before = try TrainingConfiguration.resolve(file: output.configuration.path)
        self.before = before
        configuration = try change(before)
        try configuration.validate()
        try configuration.validate(continuing: before)
        self.output = output
    }

    /// Claims the folder for as long as this run exists.
    private mutating func claimOutput() throws {
        guard claim == nil else { return }
        claim = try output.claim()
        // Another trainer may have used the folder since this run was made.
        if before == nil { try output.checkVacant() }
    }

    /// Loads rewards and model, and restores a continued run's checkpoint. Writes nothing but empty folders.
    /// - Parameters:
    ///   - rewards: rewards beside those of the settings.
    ///   - monitor: the run's; it may cancel while rewards load.
    /// - Throws: `OutputError` if another trainer is using the folder or it cannot be written, `RewardError`,
    ///   `ModelError`, `ConfigurationError`, `PromptError`, `TensorFileError`.
    package mutating func prepare(rewards: [(RewardSpecification, any Reward)] = [], monitor: Monitor = Monitor()) throws -> Trainer {
        // An existing folder is claimed before the slow loading of the model, to report a conflict at once.
        if FileManager.default.fileExists(atPath: output.url.path) { try claimOutput() }
        func load(_ name: String) throws -> PromptSet? { try name.isEmpty ? nil : PromptSet.load(name) }
        let prompts = try load(configuration.prompts)
        let evaluationPrompts = try load(configuration.evaluationPrompts)
        let named = try configuration.rewardPlugin.map { text in
            let specification = try RewardSpecification(text)
            return (specification, try specification.load(monitor: monitor, opener: openLibrary) as any Reward)
        }
        let evaluator = try RewardEvaluator(
            named + rewards, beta: configuration.algorithm.usesBeta ? configuration.beta : nil, monitor: monitor)
        let trainer = try Trainer(
            configuration, model: loadModel(monitor), evaluator: evaluator, prompts: prompts ?? .none,
            evaluationPrompts: evaluationPrompts, output: output)
        try output.prepare()
        try claimOutput()
        output.removeUnfinished()
        if let before {
            // A run that was stopped before its first checkpoint starts anew.
            if Checkpoint.exists(in: output) { try trainer.resume(from: output) } else { try output.truncateMetrics(to: 0) }
            if let warning = configuration.betaFall(since: before, trainer) { monitor.onWarning(warning) }
        }
        return trainer
    }

    private func loadModel(_ monitor: Monitor) throws -> DiffusionPipeline {
        let device = try configuration.device.resolve()
        if configuration.threads > 0 { Torch.threads = configuration.threads }
        let model = try DiffusionPipeline(
            folder: configuration.model, predictionDecoder: configuration.predictionDecoder.isEmpty ? nil : configuration.predictionDecoder,
            dtype: configuration.dtype(on: device), device: device)
        for note in model.notes { monitor.onNote(note) }
        if model.textWidth != nil, configuration.prompts.isEmpty {
            throw ConfigurationError(
                "\(setting: "prompts") is missing: a file or a built-in set, \(PromptSet.builtInNames.joined(separator: ", "))")
        }
        return model
    }
}

extension TrainingConfiguration {
    /// Says that beta falls where a run is continued: its annealing is a fraction of all epochs.
    /// - Parameter old: the settings before; a lower `beta` is meant to fall.
    fileprivate func betaFall(since old: TrainingConfiguration, _ trainer: Trainer) -> String? {
        guard trainer.stepsDone > 0, beta == old.beta, algorithm.usesBeta else { return nil }
        let next = trainer.epochsDone
        let before = old.beta(epoch: trainer.updatesDone > 0 ? next : next - 1)
        let after = beta(epoch: next)
        guard after < before else { return nil }
        let kept = old.betaAnnealing * Double(old.epochs) / Double(epochs)
        return String(
            format: "beta falls from %g to %g in epoch %d, because it is annealed over %g of %d epochs: beta_annealing %.3g keeps it up",
            before, after, next, betaAnnealing, epochs, kept)
    }
}

extension Trainer {
    /// Runs a new run's self-checks, writes config.yaml, and draws the untrained model's sample sheet.
    /// - Throws: `SelfCheckError`, `OutputError`, `RewardError`, `TensorError`, `Cancelled`.
    package func begin() throws {
        let isNew = stepsDone == 0
        if isNew { for line in try selfCheck() { monitor.onNote("check: \(line)") } }
        try recorder.output.writeConfiguration(configuration)
        if isNew { try saveSamples() }
    }
}
