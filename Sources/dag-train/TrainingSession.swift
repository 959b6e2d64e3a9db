import Commands
import DAGCore
import Dispatch
import Foundation
import Rewards
import Yams

/// One invocation of dag-train: settings from file and flags, the trainer, and what the terminal shows.
final class TrainingSession {
    private let configuration: TrainingConfiguration
    private let output: OutputFolder
    private let resuming: OutputFolder?

    init(subject: SubjectOptions, method: MethodOptions, amounts: AmountOptions, machine: MachineOptions) throws {
        resuming = subject.resume.map(OutputFolder.init)
        var base = TrainingConfiguration()
        if let resuming {
            guard FileManager.default.fileExists(atPath: resuming.configuration.path) else {
                throw ConfigurationError("--resume \(resuming.url.path): no run there (config.yaml is missing)")
            }
            base = try .resolve(file: resuming.configuration.path)
        }
        configuration = try .resolve(
            base: base, file: subject.config,
            overrides: Self.overrides(subject: subject, method: method, amounts: amounts, machine: machine))
        guard let path = subject.output ?? subject.resume else {
            throw ConfigurationError("--output is missing: a new folder for the LoRA, metrics, samples and checkpoints")
        }
        output = OutputFolder(path)
        if let resuming, resuming.url.standardizedFileURL != output.url.standardizedFileURL {
            throw ConfigurationError("--resume continues in its own folder: leave --output out, or copy \(resuming.url.path) first")
        }
        try configuration.check()
        if resuming != nil { try configuration.check(continuing: base) } else { try output.checkVacant() }
    }

    /// The flags that were given, as values of the configuration's keys.
    private static func overrides(
        subject: SubjectOptions, method: MethodOptions, amounts: AmountOptions, machine: MachineOptions
    ) -> [String: Node] {
        let scalars: [String: (any CustomStringConvertible)?] = [
            "model": subject.model, "prompts": subject.prompts, "algorithm": method.algorithm, "beta": method.beta,
            "beta_annealing": method.betaAnnealing, "learning_rate": method.learningRate, "flow_learning_rate": method.flowLearningRate,
            "kl_coefficient": method.klCoefficient, "unet_regularization": method.unetRegularization, "clip_range": method.clipRange,
            "forward_looking": method.forwardLooking, "log_prob": method.logProb, "per_prompt_statistics": method.perPromptStatistics,
            "lora_rank": method.loraRank, "weight_decay": method.weightDecay, "max_grad_norm": method.maxGradNorm, "epochs": amounts.epochs,
            "sample_batch_size": amounts.sampleBatchSize, "batches_per_epoch": amounts.batchesPerEpoch,
            "train_batch_size": amounts.trainBatchSize, "gradient_accumulation_steps": amounts.gradientAccumulationSteps,
            "steps": amounts.steps, "eta": amounts.eta, "guidance_scale": amounts.guidanceScale, "precision": machine.precision,
            "device": machine.device, "max_rows_per_pass": machine.maxRowsPerPass, "threads": machine.threads, "seed": machine.seed,
            "evaluation_samples": machine.evaluationSamples, "sample_every": machine.sampleEvery,
            "checkpoint_every": machine.checkpointEvery,
        ]
        var nodes = scalars.compactMapValues { $0.map { Node($0.description) } }
        if !subject.rewardPlugin.isEmpty { nodes["reward_plugin"] = Node(subject.rewardPlugin.map { Node($0) }) }
        return nodes
    }

    enum Ending { case finished, stopped }

    /// Trains until the end or until a signal.
    func run() throws -> Ending {
        let prompts = try configuration.prompts.isEmpty ? PromptSet.none : PromptSet.load(configuration.prompts)
        let evaluator = try RewardEvaluator(plugins: configuration.rewardPlugin)
        let trainer = try Trainer(configuration, evaluator: evaluator, prompts: prompts, output: output)
        try output.prepare()
        if let resuming { try trainer.resume(from: resuming) }

        let display = ProgressDisplay(total: configuration.epochs * configuration.updatesPerEpoch, done: trainer.stepsDone)
        trainer.onStep = display.step
        trainer.onProgress = display.progress
        trainer.onWarning = { display.line("warning: \($0)") }
        let signals = Self.stopOnSignals(trainer, display)
        defer { signals.forEach { $0.cancel() } }
        display.line(trainer.summary)
        do {
            let isFresh = trainer.stepsDone == 0
            if isFresh {
                for line in try trainer.selfCheck() { display.line("check: \(line)") }
            }
            try output.writeConfiguration(configuration)
            if isFresh { try trainer.saveSamples() }
            let before = isFresh && configuration.evaluationSamples > 0 ? try trainer.evaluate() : nil
            try trainer.run()
            let after = configuration.evaluationSamples > 0 ? try trainer.evaluate() : nil
            display.finish(before: before, after: after)
        } catch is Cancelled {
            try output.writeConfiguration(configuration)
            try trainer.save()
            display.line("stopped and saved; continue with: dag-train --resume \(output.url.relativePath)")
            return .stopped
        }
        display.line("LoRA: \(output.lora.relativePath)")
        return .finished
    }

    /// Ctrl-C and a polite kill end the run after the step under way; the second one at once.
    private static func stopOnSignals(_ trainer: Trainer, _ display: ProgressDisplay) -> [any DispatchSourceSignal] {
        [SIGINT, SIGTERM].map { number in
            signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
            nonisolated(unsafe) let trainer = trainer
            nonisolated(unsafe) var asked = false
            source.setEventHandler {
                if asked { _exit(130) }
                asked = true
                report("\nfinishing this step and saving (again to end at once)\n")
                trainer.cancel()
            }
            source.resume()
            return source
        }
    }
}
