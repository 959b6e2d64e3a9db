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
    /// The processes of the run; may be set until `prepare`.
    package var team: Team
    /// The folder to write to.
    package let output: OutputFolder
    /// The settings that a continued run had before; nil for a new one.
    private let before: TrainingConfiguration?
    private var claim: OutputFolder.Claim?

    /// Makes a new run.
    /// - Throws: `ConfigurationError` for bad settings, `OutputError` if the folder is not empty.
    package init(_ configuration: TrainingConfiguration, output: OutputFolder, team: Team = Team()) throws {
        try configuration.validate()
        if team.isLeader { try output.checkVacant() }
        self.configuration = configuration
        self.team = team
        self.output = output
        before = nil
    }

    /// Continues the run in `output`, which rank 0 reads.
    /// - Parameter change: makes new settings from those of the run.
    /// - Throws: `ConfigurationError` if there is no run or it cannot have these settings.
    package init(
        continuing output: OutputFolder, team: Team = Team(),
        change: (TrainingConfiguration) throws -> TrainingConfiguration = { $0 }
    ) throws {
        let text = try team.leads("settings") {
            guard output.hasRun else {
                throw ConfigurationError("\(setting: "resume") \(output.url.path): no run there (config.yaml is missing)")
            }
            return try TrainingConfiguration.resolve(file: output.configuration.path).yaml()
        }
        let before = try TrainingConfiguration.resolve(text: text)
        self.before = before
        configuration = try change(before)
        try configuration.validate()
        try configuration.validate(continuing: before)
        self.team = team
        self.output = output
    }

    /// Claims the folder for as long as this run exists.
    private mutating func claimOutput() throws {
        guard claim == nil, team.isLeader else { return }
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
        team.serve(monitor)
        return try team.together("prepare") { try prepared(rewards, monitor) }
    }

    private mutating func prepared(_ rewards: [(RewardSpecification, any Reward)], _ monitor: Monitor) throws -> Trainer {
        try configuration.validate(for: team)
        // An existing folder is claimed before the slow loading of the model, to report a conflict at once.
        if FileManager.default.fileExists(atPath: output.url.path) { try claimOutput() }
        let trainer = try configuration.makeTrainer(rewards, output: output, team: team, monitor: monitor)
        try team.agree(on: facts(trainer))
        if team.isLeader { try output.prepare() }
        try claimOutput()
        if team.isLeader { output.removeUnfinished() }
        // A run that was stopped before its first checkpoint starts anew.
        if before != nil, try team.leads("checkpoint", { Checkpoint.exists(in: output) }) {
            try trainer.resume(from: output)
        } else {
            try trainer.start()
            if before != nil, team.isLeader { try output.truncateMetrics(to: 0) }
        }
        if let before {
            if let warning = configuration.betaFall(since: before, trainer) { monitor.warn(warning) }
        }
        return trainer
    }

    /// What has to be the same on all ranks, so that they compute alike.
    private func facts(_ trainer: Trainer) throws -> [String: String] {
        var facts = Dictionary(uniqueKeysWithValues: TrainingConfiguration.settings.map { ($0.key, $0.text(of: configuration)) })
        facts["version"] = DAGVersion.text
        facts["libtorch"] = Torch.version
        facts["rewards"] = trainer.collector.evaluator.fingerprint
        facts["prompts in use"] = trainer.collector.prompts.fingerprint
        facts["evaluation prompts in use"] = trainer.evaluationPrompts.fingerprint
        facts["precision in use"] = "\(trainer.model.dtype)"
        facts["device in use"] = "\(trainer.model.device)"
        facts["start"] = before == nil ? "a new run" : "a run to continue"
        return facts
    }
}

extension TrainingConfiguration {
    /// Loads rewards and model, and says before a run what it is going to cost. Writes nothing.
    /// - Throws: `ConfigurationError`, `RewardError`, `ModelError`, `PromptError`, `TensorFileError`,
    ///   `TensorError`.
    package func estimate(monitor: Monitor) throws -> CostEstimate {
        try validate()
        return try makeTrainer([], output: OutputFolder("/dev/null"), team: Team(), monitor: monitor).estimate()
    }

    /// Loads rewards and model. Writes nothing.
    /// - Parameter rewards: rewards beside those of the settings.
    fileprivate func makeTrainer(
        _ rewards: [(RewardSpecification, any Reward)], output: OutputFolder, team: Team, monitor: Monitor
    ) throws -> Trainer {
        let prompts = try loadPrompts()
        let evaluationPrompts = try evaluationPrompts.isEmpty ? nil : PromptSet.load(evaluationPrompts)
        monitor.report(.loading, 0, of: 2)
        let evaluator = try loadRewards(beside: rewards, monitor: monitor)
        monitor.report(.loading, 1, of: 2)
        return try Trainer(
            self, model: loadModel(monitor), evaluator: evaluator, prompts: prompts, evaluationPrompts: evaluationPrompts,
            output: output, team: team)
    }

    /// Loads the prompts; one empty prompt if the settings name none.
    /// - Throws: `PromptError`.
    package func loadPrompts() throws -> PromptSet { try prompts.isEmpty ? .none : PromptSet.load(prompts) }

    /// Loads the rewards of the settings.
    /// - Parameters:
    ///   - others: rewards beside those of the settings.
    ///   - monitor: may cancel while rewards load.
    /// - Throws: `RewardError`, `Cancelled`.
    package func loadRewards(beside others: [(RewardSpecification, any Reward)] = [], monitor: Monitor) throws -> RewardEvaluator {
        let named = try rewardPlugin.map { text in
            let specification = try RewardSpecification(text)
            return (specification, try specification.load(monitor: monitor, opener: openLibrary) as any Reward)
        }
        return try RewardEvaluator(named + others, beta: algorithm.usesBeta ? beta : nil, monitor: monitor)
    }

    /// Loads the pretrained model, in the precision and on the device of the settings.
    /// - Throws: `ModelError`, `ConfigurationError`, `TensorFileError`, `TokenizerError`.
    package func loadModel(_ monitor: Monitor) throws -> DiffusionPipeline {
        let device = try device.resolve()
        if threads > 0 { Torch.threads = threads }
        let model = try DiffusionPipeline(
            folder: model, predictionDecoder: predictionDecoder.isEmpty ? nil : predictionDecoder,
            height: height, width: width, dtype: dtype(on: device), device: device)
        for note in model.notes { monitor.onNote(note) }
        if model.textWidth != nil, prompts.isEmpty {
            throw ConfigurationError(
                "\(setting: "prompts") is missing: a file or a built-in set, \(PromptSet.builtInNames.joined(separator: ", "))")
        }
        return model
    }

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
    /// Runs a new run's self-checks, writes config.yaml, and draws the untrained model's sample sheet, unless
    /// there are to be none.
    /// - Throws: `SelfCheckError`, `OutputError`, `RewardError`, `TensorError`, `Cancelled`.
    package func begin() throws {
        let isNew = stepsDone == 0
        try team.together("begin") {
            if isNew { for line in try selfCheck() { monitor.onNote("check: \(line)") } }
            try writeConfiguration()
            if isNew, configuration.sampleEvery > 0 { try saveSamples() }
        }
    }

    /// Writes config.yaml.
    /// - Throws: `OutputError`.
    package func writeConfiguration() throws {
        if team.isLeader { try recorder.output.writeConfiguration(configuration) }
    }
}
