import Commands
import DAGCore
import Dispatch
import Foundation
import Rewards
import Support
import Yams

/// One invocation of dag-train: settings from file and flags, the trainer, and what the terminal shows.
final class TrainingSession {
    private var training: TrainingRun

    init(subject: SubjectOptions, method: MethodOptions, amounts: AmountOptions, machine: MachineOptions) throws {
        func resolve(_ base: TrainingConfiguration) throws -> TrainingConfiguration {
            let configuration = try TrainingConfiguration.resolve(
                base: base, file: subject.config,
                overrides: Self.overrides(subject: subject, method: method, amounts: amounts, machine: machine))
            guard !configuration.rewardPlugin.isEmpty else {
                throw ConfigurationError("--reward-plugin is missing: what scores the pictures, such as libwarmth.so or my_reward.py")
            }
            return configuration
        }
        if let folder = subject.resume.map(OutputFolder.init) {
            training = try TrainingRun(continuing: folder, change: resolve)
            if let output = subject.output.map(OutputFolder.init), output.url.standardizedFileURL != folder.url.standardizedFileURL {
                throw ConfigurationError("--resume continues in its own folder: leave --output out, or copy \(folder.url.path) first")
            }
        } else {
            let configuration = try resolve(.init())
            guard let path = subject.output else {
                throw ConfigurationError("--output is missing: a new folder for the LoRA, metrics, samples and checkpoints")
            }
            training = try TrainingRun(configuration, output: OutputFolder(path))
        }
    }

    /// The flags that were given, as values of the configuration's keys.
    private static func overrides(
        subject: SubjectOptions, method: MethodOptions, amounts: AmountOptions, machine: MachineOptions
    ) -> [String: Node] {
        let scalars: [String: (any CustomStringConvertible)?] = [
            "model": subject.model, "prompts": subject.prompts, "algorithm": method.algorithm, "target": method.target,
            "subtb_lambda": method.subtbLambda, "beta": method.beta,
            "beta_annealing": method.betaAnnealing, "learning_rate": method.learningRate, "flow_learning_rate": method.flowLearningRate,
            "kl_coefficient": method.klCoefficient, "unet_regularization": method.unetRegularization, "clip_range": method.clipRange,
            "forward_looking": method.forwardLooking, "log_prob": method.logProb, "per_prompt_statistics": method.perPromptStatistics,
            "lora_rank": method.loraRank, "weight_decay": method.weightDecay, "max_grad_norm": method.maxGradNorm, "epochs": amounts.epochs,
            "sample_batch_size": amounts.sampleBatchSize, "batches_per_epoch": amounts.batchesPerEpoch,
            "train_batch_size": amounts.trainBatchSize, "gradient_accumulation_steps": amounts.gradientAccumulationSteps,
            "steps": amounts.steps, "eta": amounts.eta, "guidance_scale": amounts.guidanceScale, "precision": machine.precision,
            "device": machine.device, "max_rows_per_pass": machine.maxRowsPerPass, "threads": machine.threads, "seed": machine.seed,
            "evaluation_samples": machine.evaluationSamples,
            "evaluation_prompts": machine.evaluationPrompts, "sample_every": machine.sampleEvery,
            "checkpoint_every": machine.checkpointEvery,
        ]
        var nodes = scalars.compactMapValues { $0.map { Node($0.description) } }
        if !subject.rewardPlugin.isEmpty { nodes["reward_plugin"] = Node(subject.rewardPlugin.map { Node($0) }) }
        return nodes
    }

    enum Ending { case finished, stopped }

    /// Trains until the end or until a signal.
    func run() throws -> Ending {
        let (configuration, output) = (training.configuration, training.output)
        let monitor = Monitor()
        let trainer = try training.prepare(monitor: monitor)
        let isNew = trainer.stepsDone == 0
        let display = ProgressDisplay(total: configuration.epochs * configuration.updatesPerEpoch, done: trainer.stepsDone)
        trainer.onStep = display.step
        monitor.onProgress = display.progress
        monitor.onNote = display.line
        monitor.onWarning = { display.line("warning: \($0)") }
        let signals = Self.stopOnSignals(monitor)
        defer { signals.forEach { $0.cancel() } }
        display.line(trainer.summary)
        do {
            try trainer.begin()
            let before = isNew && configuration.evaluationSamples > 0 ? try trainer.evaluate() : nil
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
    private static func stopOnSignals(_ monitor: Monitor) -> [any DispatchSourceSignal] {
        [SIGINT, SIGTERM].map { number in
            signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
            nonisolated(unsafe) var asked = false
            source.setEventHandler {
                if asked { _exit(130) }
                asked = true
                report("\nstopping and saving (again to end at once)\n")
                monitor.cancel()
            }
            source.resume()
            return source
        }
    }
}
