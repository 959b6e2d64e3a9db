import Foundation
import Models
import NN
import Rewards
import Support
import Tensors
import TestSupport
import Testing

@testable import DAGCore

@Suite struct TrainerTests {
    /// The table of the least work (docs/algorithms): U-Net rows, decodes and scored images of one epoch,
    /// counted.
    @Test(arguments: [AlgorithmName.dagDB, .dagKL, .ddpo], [ForwardLooking.rollout, .current])
    func noRedundantWork(algorithm: AlgorithmName, forwardLooking: ForwardLooking) throws {
        let folder = try TemporaryFolder()
        nonisolated(unsafe) var scored = 0
        let evaluator = try brightness { scored += $0 }
        let configuration = smallConfiguration {
            $0.algorithm = algorithm
            $0.forwardLooking = forwardLooking
            $0.maxRowsPerPass = 16
        }
        let trainer = try trainer(configuration, folder, evaluator: evaluator)
        try trainer.runEpoch()
        let (trajectories, steps) = (configuration.trajectoriesPerEpoch, configuration.steps)
        // Two rows of guidance at rollout and two in training, and the pretrained model's at 8 x 4 states to
        // see how far it is; each state decoded and scored once, and the final image.
        #expect(trainer.model.work.networkRows == trajectories * steps * 4 + 8 * 4 * 2)
        let images = algorithm == .ddpo ? trajectories : trajectories * (steps + 1)
        #expect(trainer.model.work.decodes == images)
        #expect(scored == images)
    }

    /// A state flow that tells at each evaluation whether its blocks would be computed again.
    private struct Spy: FlowNetwork {
        let flow: StateFlow
        let note: (Bool) -> Void
        var parameters: [(name: String, tensor: Tensor)] { flow.parameters }
        func callAsFunction(_ x: Tensor, times: Tensor, context: Tensor?) -> Tensor {
            note(GradientCheckpointing.isEnabled)
            return flow(x, times: times, context: context)
        }
    }

    /// Gradient checkpointing is on in updates, changes no weight, and counts no row twice.
    @Test(arguments: [AlgorithmName.dagDB, .dagNabla]) func gradientCheckpointingChangesNothing(algorithm: AlgorithmName) throws {
        let results = try [false, true].map { on in
            let folder = try TemporaryFolder()
            let output = OutputFolder(folder.url.appendingPathComponent("run").path)
            try output.prepare()
            let configuration = smallConfiguration {
                ($0.gradientCheckpointing, $0.maxRowsPerPass, $0.algorithm) = (on, 16, algorithm)
                if algorithm == .dagNabla { ($0.target, $0.flowUpdates, $0.replayUpdates) = (.anchored, 2, 2) }
            }
            let model = try DiffusionPipeline(folder: tinySD, dtype: .float32, device: .cpu)
            var seen: Set<Bool> = []
            let trainer = try Trainer(
                configuration, model: model, evaluator: brightness(), prompts: PromptSet.load("tiny-sd"), output: output,
                makeFlow: { Spy(flow: try StateFlow($0, beside: model)) { seen.insert($0) } })
            try trainer.runEpoch()
            #expect(seen == [on])
            return (weights: try trainer.weights(), rows: model.work.networkRows)
        }
        #expect(results[0] == results[1])
    }

    /// An epoch draws each prompt several times, and trains on its images in one group.
    @Test func imagesOfOnePromptAreOneGroup() throws {
        let configuration = smallConfiguration { ($0.imagesPerPrompt, $0.trainBatchSize, $0.gradientAccumulationSteps) = (4, 4, 2) }
        let folder = try TemporaryFolder()
        let trainer = try trainer(configuration, folder)
        try trainer.rollOut()
        try trainer.score()
        let rollout = try #require(trainer.rollout)
        let groups = configuration.order(epoch: 0).chunks(of: 4).map { Set($0.map { rollout.prompts[$0] }) }
        #expect(groups.map(\.count) == [1, 1] && groups[0] != groups[1])
        #expect(Set(configuration.order(epoch: 0)) == Set(0..<8))
        try trainer.update()
    }

    /// Images of another size, and evaluations of fewer steps than training.
    @Test func sizesAndEvaluationSteps() throws {
        let configuration = smallConfiguration {
            ($0.height, $0.width, $0.evaluationSamples, $0.evaluationSteps, $0.epochs) = (24, 40, 4, 2, 1)
        }
        let folder = try TemporaryFolder()
        let trainer = try trainer(configuration, folder)
        try trainer.run()
        let images = try #require(trainer.samples?.images)
        #expect((images.height, images.width) == (24, 40))
        let before = trainer.model.work.networkRows
        _ = try trainer.evaluate()
        #expect(trainer.model.work.networkRows - before == 4 * 2 * 2)
        let error = #expect(throws: ConfigurationError.self) {
            _ = try DiffusionPipeline(folder: tinySD, width: 20, dtype: .float32, device: .cpu)
        }
        #expect(error?.message.text(.flag) == "--width 20: \(tinySD) makes images whose sides are multiples of 8")
    }

    /// An update holds no text encoder; the next prompts load it again.
    @Test func updatesHoldNoTextEncoder() throws {
        let folder = try TemporaryFolder()
        let (model, encoder) = (folder.url.appendingPathComponent("model"), folder.url.appendingPathComponent("model/text_encoder"))
        let elsewhere = folder.url.appendingPathComponent("elsewhere")
        try FileManager.default.copyItem(atPath: tinySD, toPath: model.path)
        let trainer = try trainer(smallConfiguration { $0.model = model.path }, folder)
        func embedding() throws -> [Float] { try #require(try trainer.model.encode(["a red boot"])).prompts.array() }
        let before = try embedding()
        try trainer.rollOut()
        try trainer.score()
        try FileManager.default.moveItem(at: encoder, to: elsewhere)
        try trainer.update()
        #expect(throws: ModelError.self) { try embedding() }
        try FileManager.default.moveItem(at: elsewhere, to: encoder)
        #expect(try embedding() == before)
    }

    /// Evaluation may have prompts of its own.
    @Test func evaluationOfHeldOutPrompts() throws {
        let folder = try TemporaryFolder()
        nonisolated(unsafe) var asked: [String] = []
        let reward = CallbackReward(name: "listens") { batch in
            asked += batch.prompts.map(\.text)
            return Array(repeating: 0, count: batch.count)
        }
        let prompts = folder.url.appendingPathComponent("held-out.txt")
        try Data("a red bag\na blue boot\n".utf8).write(to: prompts)
        var run = try TrainingRun(
            smallConfiguration {
                $0.rewardPlugin = []
                $0.evaluationSamples = 3
                $0.evaluationPrompts = prompts.path
            },
            output: OutputFolder(folder.url.appendingPathComponent("run").path))
        let trainer = try run.prepare(rewards: [(RewardSpecification(library: "listens"), reward)])
        _ = try trainer.evaluate()
        #expect(asked == ["a red bag", "a blue boot", "a red bag"])
    }

    /// A reward gets the metadata of each image's prompt: in the self-checks, of final images, of predictions, in
    /// evaluations, and in an epoch that is gone on with. Prompts that have changed since are refused.
    @Test func metadataArrives() throws {
        let folder = try TemporaryFolder()
        let file = folder.url.appendingPathComponent("signs.jsonl")
        let rows = [#"{"prompt": "a boot", "side": "left"}"#, #"{"n": {"z": [2.5, null]}, "prompt": "a boot", "side": "ä"}"#]
        try Data(rows.joined(separator: "\n").utf8).write(to: file)
        let expected = [#"{"side":"left"}"#, #"{"n":{"z":[2.5,null]},"side":"ä"}"#].map { Prompt("a boot", metadata: $0) }
        nonisolated(unsafe) var heard: [(id: UInt64, prompt: Prompt)] = []
        let reward = CallbackReward(name: "listens") { batch in
            heard += zip(batch.sampleIDs, batch.prompts).map { ($0, $1) }
            return brightness(batch)
        }
        func checkHeard(_ what: String, samples: ScoredSamples? = nil) {
            #expect(Set(heard.map(\.prompt)) == Set(expected), "\(what)")
            if let samples {
                let prompts = Dictionary(uniqueKeysWithValues: zip(samples.ids, samples.prompts))
                #expect(heard.allSatisfy { prompts[$0.id] == $0.prompt }, "\(what)")
            }
            heard = []
        }
        let output = OutputFolder(folder.url.appendingPathComponent("run").path)
        let rewards: [(RewardSpecification, any Reward)] = [(RewardSpecification(library: "listens"), reward)]
        do {
            var run = try TrainingRun(
                smallConfiguration {
                    ($0.rewardPlugin, $0.prompts, $0.forwardLooking) = ([], file.path, .current)
                    ($0.evaluationSamples, $0.epochs, $0.sampleBatchSize, $0.steps, $0.trainBatchSize) = (2, 1, 16, 2, 8)
                },
                output: output)
            let trainer = try run.prepare(rewards: rewards)
            try trainer.begin()
            checkHeard("the self-checks")
            _ = try trainer.evaluate()
            #expect(heard.map(\.prompt) == expected)
            heard = []
            try trainer.rollOut()
            try trainer.score()
            checkHeard("final images", samples: trainer.samples)
            try trainer.update()
            checkHeard("predictions", samples: trainer.samples)
            try trainer.save()
        }
        do {
            var run = try TrainingRun(continuing: output)
            let trainer = try run.prepare(rewards: rewards)
            try trainer.update()
            checkHeard("predictions of a resumed epoch", samples: trainer.samples)
        }
        try Data(rows[0].utf8).write(to: file)
        var run = try TrainingRun(continuing: output)
        let error = #expect(throws: OutputError.self) { try run.prepare(rewards: rewards) }
        let text = error.map { ErrorReport.line(for: $0, .flag) } ?? ""
        #expect(text.contains("trained with other prompts or metadata: 2 of checksum") && text.contains(" then, 1 of"), "\(text)")
    }

    /// With the weights of the rollout, taking the rewards of predicted data early or late is the same.
    @Test func rolloutAndCurrentRewardsAgreeAtFirst() throws {
        let losses = try [ForwardLooking.rollout, .current].map { mode in
            let folder = try TemporaryFolder()
            let trainer = try trainer(
                smallConfiguration {
                    $0.forwardLooking = mode
                    $0.maxRowsPerPass = 16
                    $0.gradientAccumulationSteps = 2
                }, folder)
            var loss = 0.0
            trainer.onStep = { loss = $0.loss }
            try trainer.runEpoch()
            return loss
        }
        #expect(abs(losses[0] - losses[1]) < 1e-3 * losses[0])
    }

    /// The divergence in the loss of an epoch's first step, which has all transitions, is the epoch's `base_kl`,
    /// and its weight keeps the policy near the pretrained model.
    @Test(arguments: [LogProbabilityReduction.mean, .sum]) func divergenceFromThePretrainedModel(reduction: LogProbabilityReduction) throws
    {
        func steps(_ coefficient: Double) throws -> (numbers: [StepMetrics], dimensions: Double) {
            let folder = try TemporaryFolder()
            let trainer = try trainer(
                smallConfiguration {
                    ($0.algorithm, $0.imagesPerPrompt, $0.baseKlCoefficient, $0.logProb) = (.grpo, 4, coefficient, reduction)
                    ($0.steps, $0.epochs, $0.learningRate, $0.clipRange, $0.gradientAccumulationSteps) = (3, 3, 3e-3, 1, 2)
                }, folder)
            var numbers: [StepMetrics] = []
            trainer.onStep = { numbers.append($0) }
            try trainer.run()
            return (numbers, reduction == .sum ? 1 : Double(trainer.model.sampleShape.reduce(1, *)))
        }
        let free = try steps(1e-9)
        #expect(free.numbers.count == 3 && free.numbers[0].algorithmMetrics["base_kl_term"] == 0)
        for step in free.numbers {
            let term = try #require(step.algorithmMetrics["base_kl_term"])
            #expect(abs(term * free.dimensions * 3 - step.baseDivergence) < 1e-3 * step.baseDivergence + 1e-6)
        }
        guard reduction == .mean else { return }
        let (far, near) = (free.numbers[2].baseDivergence, try steps(100).numbers[2].baseDivergence)
        #expect(near < 0.9 * far, "\(near) beside \(far)")
    }

    /// Two epochs, a stop and two more give the bytes of four; so does a stop in the middle of an epoch.
    @Test(.slow, arguments: [(AlgorithmName.dagDB, ""), (.dagKL, tinyDecoder), (.dagNabla, ""), (.ddpo, "")])
    func resumingIsBitExact(algorithm: AlgorithmName, predictionDecoder: String) throws {
        let configuration = smallConfiguration {
            ($0.algorithm, $0.perPromptStatistics) = (algorithm, algorithm == .ddpo)
            $0.predictionDecoder = predictionDecoder
            // All that dag-replay keeps, and a flow.
            if algorithm == .dagNabla {
                ($0.target, $0.flowUpdates, $0.replayUpdates, $0.replayBufferSize) = (.anchored, 1, 1, 12)
            }
        }
        func bytes(_ folder: TemporaryFolder) throws -> [Data] {
            let run = folder.url.appendingPathComponent("run")
            return try [run.appendingPathComponent("pytorch_lora_weights.safetensors")].map { try Data(contentsOf: $0) }
                + [Data(try Safetensors(contentsOf: newestCheckpoint(run)).weightBytes())]
        }
        let whole = try TemporaryFolder()
        try trainer(configuration, whole).run()

        let halves = try TemporaryFolder()
        let first = try trainer(configuration, halves)
        try first.runEpoch()
        try first.runEpoch()
        let second = try trainer(configuration, halves)
        try second.resume(from: OutputFolder(halves.url.appendingPathComponent("run").path))
        #expect(second.state.epoch == 2)
        try second.run()
        #expect(try bytes(halves) == bytes(whole))

        let interrupted = try TemporaryFolder()
        let stopped = try trainer(configuration, interrupted)
        stopped.onStep = { if $0.step == 2 { stopped.monitor.cancel() } }
        #expect(throws: Cancelled.self) { try stopped.run() }
        let continued = try trainer(configuration, interrupted)
        try continued.resume(from: OutputFolder(interrupted.url.appendingPathComponent("run").path))
        #expect(continued.state.step == 3 && continued.state.update == 1)
        try continued.run()
        #expect(try bytes(interrupted) == bytes(whole))
        let lines = { (folder: TemporaryFolder) in
            try String(contentsOf: folder.url.appendingPathComponent("run/metrics.jsonl"), encoding: .utf8).split(separator: "\n").count
        }
        #expect(try lines(interrupted) == lines(whole) && lines(halves) == lines(whole))
    }

    /// Objectives have the order of the rewards, also in an epoch that is continued.
    @Test func objectivesKeepTheirOrder() throws {
        func rewards() throws -> RewardEvaluator {
            try RewardEvaluator(
                ["zeta", "alpha"].map { (RewardSpecification(library: $0), CallbackReward(name: $0, body: brightness)) })
        }
        let folder = try TemporaryFolder()
        let first = try trainer(smallConfiguration(), folder, evaluator: rewards())
        try first.rollOut()
        try first.score()
        try first.save()
        let second = try trainer(smallConfiguration(), folder, evaluator: rewards())
        try second.resume(from: OutputFolder(folder.url.appendingPathComponent("run").path))
        #expect(second.samples?.scores.objectives.map(\.name) == ["zeta/score", "alpha/score"])
        #expect(second.samples?.scores == first.samples?.scores)
    }

    /// The last state of a chain whose last step has no noise is not yet the image.
    @Test func imagesOfAnEpochUnderWayAreKept() throws {
        let folder = try TemporaryFolder()
        let output = OutputFolder(folder.url.appendingPathComponent("run").path)
        try output.prepare()
        func trainer() throws -> Trainer {
            let configuration = smallConfiguration { ($0.model, $0.prompts) = (tinyDDPM, "") }
            let model = try DiffusionPipeline(folder: configuration.model, dtype: .float32, device: .cpu)
            return try Trainer(configuration, model: model, evaluator: brightness(), prompts: .none, output: output)
        }
        let first = try trainer()
        try first.rollOut()
        try first.score()
        try first.update()
        try first.save()
        let second = try trainer()
        try second.resume(from: output)
        #expect(second.samples?.images == first.samples?.images && first.samples != nil)
        #expect(second.learner.kernel.transitions < second.learner.kernel.stepCount)
    }

    /// A checkpoint that is damaged, or that a kill left half-written under its temporary name, is passed over.
    @Test func theNewestGoodCheckpointIsFound() throws {
        let folder = try TemporaryFolder()
        let first = try trainer(smallConfiguration(), folder)
        try first.runEpoch()
        let run = folder.url.appendingPathComponent("run")
        let good = try newestCheckpoint(run)
        let half = try Data(contentsOf: good).prefix(100_000)
        let newest = run.appendingPathComponent("checkpoints/epoch-00002-step-0000004.safetensors")
        var changed = try Data(contentsOf: good)
        changed[changed.count / 2] ^= 0x40
        try half.write(to: run.appendingPathComponent("checkpoints/.epoch-00003-step-0000006.safetensors.1.tmp"))
        for (data, problem) in [(half, "the file is damaged or incomplete"), (changed, "damaged (another checksum)")] {
            try data.write(to: newest)
            let second = try trainer(smallConfiguration(), folder)
            var warnings: [String] = []
            second.monitor.onWarning = { warnings.append($0) }
            try second.resume(from: OutputFolder(run.path))
            #expect(second.state.epoch == 1)
            #expect(try second.weights() == first.weights())
            #expect(warnings.count == 1 && warnings[0].hasPrefix(newest.path) && warnings[0].contains(problem), "\(warnings)")
            #expect(warnings[0].hasSuffix("; going on from the checkpoint before, \(good.lastPathComponent)"), "\(warnings)")
        }
    }

    /// A run that is continued with more epochs says that its beta falls, and clears up after writes that were
    /// interrupted.
    @Test func continuedRuns() throws {
        let folder = try TemporaryFolder()
        let output = OutputFolder(folder.url.appendingPathComponent("run").path)
        let reward = CallbackReward(name: "brightness", body: brightness)
        let monitor = Monitor()
        var warnings: [String] = []
        monitor.onWarning = { warnings.append($0) }
        func prepare(_ run: TrainingRun) throws -> Trainer {
            var run = run
            let trainer = try run.prepare(rewards: [(RewardSpecification(library: "brightness"), reward)], monitor: monitor)
            try output.writeConfiguration(run.configuration)
            return trainer
        }
        let settings = smallConfiguration { ($0.rewardPlugin, $0.epochs, $0.beta, $0.betaAnnealing) = ([], 2, 100, 0.5) }
        try prepare(TrainingRun(settings, output: output)).run()
        #expect(warnings.isEmpty)
        let leftovers = [
            ".config.yaml.1.tmp", "checkpoints/.epoch-00002-step-0000004.safetensors.1.tmp", "samples/.epoch-1.png.A-B.tmp",
        ].map(output.url.appendingPathComponent)
        for file in leftovers { try Data("x".utf8).write(to: file) }
        try Data().write(to: output.metrics)
        func more(_ epochs: Int) throws -> TrainingRun {
            try TrainingRun(continuing: output) { old in
                var new = old
                new.epochs = epochs
                return new
            }
        }
        try prepare(more(4)).run()
        #expect(
            warnings == [
                "\(output.metrics.path) is shorter than it was at the checkpoint: lines of steps before it are missing"
            ])
        #expect(leftovers.allSatisfy { !FileManager.default.fileExists(atPath: $0.path) })
        _ = try prepare(more(12))
        #expect(
            warnings.dropFirst() == [
                "beta falls from 100 to 66.6667 in epoch 4, because it is annealed over 0.5 of 12 epochs: beta_annealing 0.167 keeps it up"
            ])
    }

    /// A start that was cut off leaves unfinished files and no settings: it can be made again in the same folder.
    @Test func aStartThatWasCutOffIsMadeAgain() throws {
        let folder = try TemporaryFolder()
        let output = OutputFolder(folder.url.appendingPathComponent("run").path)
        try output.prepare()
        let leftovers = [".config.yaml.1.tmp", "samples/.writable.1.tmp"].map(output.url.appendingPathComponent)
        for file in leftovers { try Data("x".utf8).write(to: file) }
        let reward = CallbackReward(name: "brightness") { Array(repeating: 0, count: $0.count) }
        var run = try TrainingRun(smallConfiguration { $0.rewardPlugin = [] }, output: output)
        _ = try run.prepare(rewards: [(RewardSpecification(library: "brightness"), reward)])
        #expect(leftovers.allSatisfy { !FileManager.default.fileExists(atPath: $0.path) })
        try Data("x".utf8).write(to: output.url.appendingPathComponent(".notes.tmp"))
        #expect(throws: OutputError.self) { try output.checkVacant() }
    }

    @Test func resumingWithAnotherRewardOrModelIsRefused() throws {
        let folder = try TemporaryFolder()
        try trainer(smallConfiguration(), folder).runEpoch()
        let run = OutputFolder(folder.url.appendingPathComponent("run").path)
        let darkness = CallbackReward(name: "darkness") { Array(repeating: 0, count: $0.count) }
        let other = try RewardEvaluator([(RewardSpecification(library: "darkness"), darkness)])
        let reward = #expect(throws: OutputError.self) { try trainer(smallConfiguration(), folder, evaluator: other).resume(from: run) }
        #expect(reward?.description.contains("other rewards: darkness: `") == true, "\(reward!)")
        #expect(throws: TensorFileError.self) { try trainer(smallConfiguration { $0.loraRank = 2 }, folder).resume(from: run) }
        #expect(throws: OutputError.self) { try run.checkVacant() }
    }

    /// The average of the LoRA's weights is saved, continued and evaluated; a run that starts from its file is
    /// evaluated alike.
    @Test func averageAndInitialLoRA() throws {
        let folder = try TemporaryFolder()
        func averaging(_ change: (inout TrainingConfiguration) -> Void = { _ in }) -> TrainingConfiguration {
            smallConfiguration {
                $0.epochs = 2
                $0.emaDecay = 0.5
                $0.evaluationSamples = 4
                change(&$0)
            }
        }
        let first = try trainer(averaging(), folder)
        try first.runEpoch()
        try first.save()
        let output = OutputFolder(folder.url.appendingPathComponent("run").path)
        let second = try trainer(averaging(), folder)
        try second.resume(from: output)
        for trainer in [first, second] { try trainer.runEpoch() }
        func average(_ trainer: Trainer) throws -> Data {
            try #require(trainer.learner.average).inPlace { try trainer.learner.lora.encoded() }
        }
        #expect(try average(first) == average(second))
        #expect(try Data(contentsOf: output.averagedLora) == average(first))
        #expect(try Data(contentsOf: output.lora) == first.learner.lora.encoded() && average(first) != first.learner.lora.encoded())

        let other = try TemporaryFolder()
        let third = try trainer(
            averaging {
                $0.initLora = output.averagedLora.path
                $0.target = .anchored
            }, other)
        try third.start()
        #expect(try third.evaluate().rewardMean == first.evaluate().rewardMean)
        #expect(try third.learner.lora.encoded() == average(first))
        // The pretrained model is the one without it, from the first epoch on.
        try third.rollOut()
        try third.score()
        let rollout = try #require(third.rollout)
        #expect(try difference(rollout.logReference[0], rollout.logForward[0]) > 0)

        func refusal(_ change: @escaping (inout TrainingConfiguration) -> Void) throws -> String {
            let trainer = try trainer(
                averaging {
                    $0.initLora = output.lora.path
                    change(&$0)
                }, other)
            return try #require(#expect(throws: ConfigurationError.self) { try trainer.start() }).message.text(.flag)
        }
        let rank = try refusal { $0.loraRank = 2 }
        #expect(rank.contains("--init-lora \(output.lora.path) has rank 4 at ") && rank.hasSuffix("not --lora-rank 2"))
        #expect(try refusal { $0.loraTargets = "to_q,to_k" }.hasSuffix("which --lora-targets does not name"))
        let unknown = #expect(throws: ConfigurationError.self) { try trainer(averaging { $0.loraTargets = "to_q,,conv1" }, other) }
        #expect(unknown?.message.text(.flag).hasPrefix("--lora-targets to_q,,conv1: no layer of this model is named ''; it has ") == true)
    }

    /// A plugin that fails in the middle of a run ends it with an error that names the plugin; saved files
    /// stay.
    @Test func aFailingRewardEndsTheRunCleanly() throws {
        final class Counter: @unchecked Sendable { var calls = 0 }
        let counter = Counter()
        let failing = CallbackReward(name: "fragile") { batch in
            counter.calls += 1
            return Array(repeating: counter.calls > 7 ? .nan : 0.5, count: batch.count)
        }
        let folder = try TemporaryFolder()
        let trainer = try trainer(
            smallConfiguration(), folder, evaluator: RewardEvaluator([(RewardSpecification(library: "fragile"), failing)]))
        let error = #expect(throws: RewardError.self) { try trainer.run() }
        #expect(error?.description.contains("fragile") == true)
        let saved = OutputFolder(folder.url.appendingPathComponent("run").path)
        #expect(try Checkpoint(newestOf: saved).state.epoch == 1)
    }

    /// A full disk at the end of an epoch costs neither weights nor lines of metrics.jsonl.
    @Test(.slow) func whatCannotBeWrittenChangesNothing() throws {
        let (whole, folder) = (try TemporaryFolder(), try TemporaryFolder())
        let straight = try trainer(smallConfiguration { $0.epochs = 2 }, whole)
        try straight.run()
        let trainer = try trainer(smallConfiguration { $0.epochs = 2 }, folder)
        try trainer.rollOut()
        try trainer.score()
        try trainer.update()
        // A folder in the file's place cannot be written to.
        let metrics = folder.url.appendingPathComponent("run/metrics.jsonl")
        try FileManager.default.removeItem(at: metrics)
        try FileManager.default.createDirectory(at: metrics, withIntermediateDirectories: false)
        #expect(throws: OutputError.self) { try trainer.update() }
        #expect(trainer.epochsDone == 1 && trainer.updatesDone == 0)
        #expect(throws: OrderError.self) { try trainer.update() }
        try FileManager.default.removeItem(at: metrics)
        try trainer.run()
        #expect(try trainer.weights() == straight.weights())
        // The first line went with the file.
        let lines = try String(contentsOf: metrics, encoding: .utf8).split(separator: "\n")
        #expect(try lines.map { try JSONDecoder().decode([String: Double?].self, from: Data($0.utf8))["step"] } == [1, 2, 3])
    }

    /// A run that is stopped and cannot save says so.
    @Test func whatIsNotSavedIsSaid() throws {
        let folder = try TemporaryFolder()
        let trainer = try trainer(smallConfiguration(), folder)
        var warnings: [String] = []
        trainer.monitor.onWarning = { warnings.append($0) }
        trainer.onStep = { _ in trainer.monitor.cancel() }
        try FileManager.default.removeItem(at: folder.url.appendingPathComponent("run/checkpoints"))
        #expect(throws: Cancelled.self) { try trainer.run() }
        #expect(warnings.count == 1 && warnings[0].contains("is not saved: ") && warnings[0].contains("cannot be written"))
    }

    /// A loss that is not finite stops before it reaches the weights.
    @Test func divergenceKeepsTheWeights() throws {
        let folder = try TemporaryFolder()
        let trainer = try trainer(smallConfiguration { $0.beta = 1e30 }, folder)
        let before = try trainer.weights()
        let error = #expect(throws: NotFiniteError.self) { try trainer.run() }
        #expect(error?.description.contains("is not finite") == true)
        #expect(try trainer.weights() == before)
    }

    /// A pixel-space DDPM, its files at the top of the folder as in google/ddpm-cifar10-32: no text, no
    /// guidance, no autoencoder, and a last step without noise, which is no transition.
    @Test func unconditionalModels() throws {
        let folder = try TemporaryFolder()
        let model = folder.url.appendingPathComponent("ddpm")
        try FileManager.default.copyItem(at: goldens.appendingPathComponent("ddpm"), to: model)
        let scheduler = #"{"_class_name": "DDPMScheduler", "beta_schedule": "linear", "clip_sample": true, "num_train_timesteps": 1000}"#
        try Data(scheduler.utf8).write(to: model.appendingPathComponent("scheduler_config.json"))
        nonisolated(unsafe) var scored = 0
        let evaluator = try brightness { scored += $0 }
        let output = OutputFolder(folder.url.appendingPathComponent("run").path)
        try output.prepare()
        let trainer = try Trainer(
            smallConfiguration { ($0.model, $0.prompts) = (model.path, "") },
            model: DiffusionPipeline(folder: model.path, dtype: .float32, device: .cpu), evaluator: evaluator, prompts: .none,
            output: output)
        _ = try trainer.selfCheck()
        let (rows, images) = (trainer.model.work.networkRows, scored)
        try trainer.runEpoch()
        #expect(trainer.learner.kernel.transitions == 3)
        #expect(trainer.model.work.networkRows - rows == 8 * (4 + 3 + 3))
        #expect(scored - images == 8 * (3 + 1))
        try trainer.saveSamples()
    }

    @Test func selfChecksPassOnTheShippedModel() throws {
        let folder = try TemporaryFolder()
        let names = try trainer(smallConfiguration(), folder).selfCheck().map { $0.prefix { $0 != ":" } }
        #expect(names == ["text encoder separates prompts", "importance ratio on a fresh rollout", "rewards answer sanely"])
    }

    /// Clipped ratios of a second optimiser step need float32: in bfloat16 rounding alone passes the clip range.
    @Test func roundingOfRatiosIsHeldAgainstTheClipRange() throws {
        func check(_ dtype: DType, clipRange: Double = 1e-4, algorithm: AlgorithmName = .ddpo, updates: Int = 2) throws -> String? {
            let folder = try TemporaryFolder()
            let output = OutputFolder(folder.url.appendingPathComponent("run").path)
            try output.prepare()
            let configuration = smallConfiguration {
                $0.algorithm = algorithm
                $0.clipRange = clipRange
                $0.gradientAccumulationSteps = 2 / updates
            }
            let model = try DiffusionPipeline(folder: configuration.model, dtype: dtype, device: .cpu)
            let trainer = try Trainer(
                configuration, model: model, evaluator: brightness(), prompts: PromptSet.load(configuration.prompts), output: output)
            let lora = try trainer.learner.lora.encoded()
            let lines = Result { try trainer.selfCheck() }
            #expect(try trainer.learner.lora.encoded() == lora)
            return try lines.get().first { $0.hasPrefix("rounding") }
        }
        #expect(try check(.float32)?.hasPrefix("rounding in fp32 moves log rho by ") == true)
        #expect(try check(.bfloat16, clipRange: 1)?.hasPrefix("rounding in bf16 moves log rho by ") == true)
        #expect(try check(.bfloat16, updates: 1) == nil)
        #expect(try check(.bfloat16, algorithm: .dagDB) == nil)
        for algorithm in [AlgorithmName.ddpo, .dagKL] {
            let error = #expect(throws: SelfCheckError.self) { try check(.bfloat16, algorithm: algorithm) }
            let text = error.map { ErrorReport.line(for: $0, .flag) } ?? ""
            #expect(text.contains("of 4 transitions 4 are beyond --clip-range 0.0001"), "\(text)")
            #expect(text.contains("--precision fp32"))
        }
        #expect(smallConfiguration { ($0.algorithm, $0.precision) = (.dagKL, .auto) }.dtype(on: .cuda) == .float32)
        #expect(smallConfiguration { ($0.algorithm, $0.precision) = (.dagDB, .auto) }.dtype(on: .cuda) == .bfloat16)
    }

    /// Warm colours are rewarded and become more frequent: the whole loop has the right sign.
    @Test(.slow) func rewardRises() throws {
        // Red minus blue in the middle of the image, at most 1.
        let warmth = CallbackReward(name: "warmth") { batch in
            (0..<batch.count).map { k in
                let image = batch.images[k]
                let middle = (8..<24).flatMap { y in (8..<24).map { x in (y * 32 + x) * 3 } }
                let difference = middle.reduce(0) { $0 + Int(image[$1]) - Int(image[$1 + 2]) }
                return min(max(Float(difference) / Float(middle.count) / 127, 0), 1)
            }
        }
        let folder = try TemporaryFolder()
        let configuration = smallConfiguration {
            $0.sampleBatchSize = 32
            $0.epochs = 7
            $0.steps = 8
            $0.beta = 50
            $0.learningRate = 2e-3
            $0.flowLearningRate = 3e-3
            ($0.trainBatchSize, $0.evaluationSamples) = (8, 64)
        }
        let evaluator = try RewardEvaluator([(RewardSpecification(library: "warmth"), warmth)])
        let trainer = try trainer(configuration, folder, evaluator: evaluator)
        let before = try trainer.evaluate()
        try trainer.run()
        let after = try trainer.evaluate()
        #expect(
            after.rewardMean > before.rewardMean + 0.3 * before.rewardStd,
            "\(before.rewardMean) to \(after.rewardMean), std \(before.rewardStd)")
    }

    private func newestCheckpoint(_ run: URL) throws -> URL {
        let folder = run.appendingPathComponent("checkpoints")
        return try #require(FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil).max { $0.path < $1.path })
    }
}

extension Safetensors {
    /// Everything but the metadata, which knows the length of metrics.jsonl and so the digits of timings, and the
    /// checksum over it.
    fileprivate func weightBytes() throws -> Data { try Safetensors.encode(tensors.filter { $0.key != "~crc32" }) }
}
