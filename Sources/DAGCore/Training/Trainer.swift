import Foundation
import Images
import Models
import NN
import Rewards
import Support
import Synchronization
import Tensors

/// Training that cannot go on, in one line that says what to do.
public struct TrainingError: MessageError {
    /// One line: the culprit and the remedy.
    public let message: Message

    init(_ message: Message) { self.message = message }
}

/// A step of training that was asked for before what it builds on, in one line.
public struct OrderError: Error, CustomStringConvertible {
    /// One line: what is missing.
    public let description: String

    init(_ description: String) { self.description = description }
}

/// Post-trains a diffusion model so that it samples in proportion to a reward: DAG-DB, DAG-KL (Zhang et al. 2024) or DDPO.
public final class Trainer {
    /// The settings, as resolved.
    public let configuration: TrainingConfiguration
    /// The pretrained model with the adapters attached.
    public let pipeline: DiffusionPipeline
    /// Called after each optimiser step.
    public var onStep: (StepMetrics) -> Void = { _ in }
    /// Called as work goes on: what is being done and how much of it.
    public var onProgress: (_ phase: Phase, _ done: Int, _ total: Int) -> Void = { _, _, _ in }
    /// Called with a line when something did not go as it should and training goes on.
    public var onWarning: (String) -> Void = { _ in }
    /// Called with a line about what was checked or written.
    public var onNote: (String) -> Void = { _ in }
    /// Asked as the work goes on, on its thread: whether it is to end by throwing `Cancelled`.
    public var shouldStop: () -> Bool = { false }
    /// What a progress report is about.
    public enum Phase: String, Sendable { case sampling, training, evaluating }
    /// The newest epoch's pictures and their scores, until the next epoch's: nil before the first.
    public private(set) var samples: ScoredSamples?

    let kernels: TransitionKernels
    let sampler: Sampler
    let evaluator: RewardEvaluator
    let prompts: PromptSet
    /// What `evaluate` draws.
    let evaluationPrompts: PromptSet
    let seeds: Seeds
    let output: OutputFolder
    let lora: LoRAAdapters
    let flow: (any FlowNetwork)?
    let objective: any Objective
    let policyOptimizer: AdamW
    let flowOptimizer: AdamW?
    var progress = Checkpoint.Progress()
    private var stage = Stage.start
    /// What the newest checkpoint holds, so that it is not written twice.
    private struct SavedState: Equatable {
        let progress: Checkpoint.Progress
        let hasRollout: Bool
    }
    private var saved: SavedState?
    /// Whether what the settings ask for after the newest epoch is still to be written.
    private var owesWriting = false
    private let cancelled = Atomic(false)
    private var latestProgress = (phase: Phase.sampling, done: 0, total: 0)

    /// How far the epoch under way is.
    private enum Stage {
        case start
        /// Sampled; the last batch may still be being scored.
        case sampled(scored: [Rollout], last: UnscoredRollout)
        case scored(ScoredEpoch)
    }

    /// What the optimiser steps of an epoch share.
    struct ScoredEpoch {
        let rollout: Rollout
        let conditioning: Conditioning?
        /// Trajectories in the order in which they are trained on.
        let order: [Int]
        /// How much the pictures differ, and how far the policy that drew them is from the pretrained model.
        let diversity, baseDivergence: Double
        /// For the speed: when this process began with the epoch, and at which of its updates.
        let start: ContinuousClock.Instant
        let firstUpdate: Int
    }
    private var epochStart = ContinuousClock.now

    /// Loads the model and prepares training; nothing is written yet.
    /// - Parameters:
    ///   - evaluator: the rewards.
    ///   - prompts: what trajectories are sampled for; ignored by models without text.
    ///   - evaluationPrompts: what evaluations draw; nil: the same.
    public convenience init(
        _ configuration: TrainingConfiguration, evaluator: RewardEvaluator, prompts: PromptSet, evaluationPrompts: PromptSet? = nil,
        output: OutputFolder
    ) throws {
        try configuration.validate()
        let device = try configuration.device.resolve()
        if configuration.threads > 0 { Torch.threads = configuration.threads }
        let pipeline = try DiffusionPipeline(
            folder: configuration.model, dtype: configuration.precision.resolve(on: device), device: device)
        if pipeline.textWidth != nil, configuration.prompts.isEmpty {
            let names = PromptSet.builtInNames.joined(separator: ", ")
            throw ConfigurationError("\(setting: "prompts") is missing: a file or a built-in set, \(names)")
        }
        try self.init(
            configuration, pipeline: pipeline, evaluator: evaluator, prompts: prompts, evaluationPrompts: evaluationPrompts, output: output)
    }

    /// Prepares training of a model that is loaded: its device and precision are those of the pipeline.
    /// - Parameter makeFlow: makes the network of the state flow, if that is not to be `StateFlow`.
    public init(
        _ c: TrainingConfiguration, pipeline: DiffusionPipeline, evaluator: RewardEvaluator, prompts: PromptSet,
        evaluationPrompts: PromptSet? = nil, output: OutputFolder, makeFlow: ((ParameterStore) throws -> any FlowNetwork)? = nil
    ) throws {
        let device = pipeline.device
        seeds = Seeds(c.seed)
        self.pipeline = pipeline
        kernels = try TransitionKernels(scheduler: pipeline.scheduler, steps: c.steps, eta: c.eta, reduction: c.logProb, device: device)
        guard kernels.transitions > 0 else {
            throw ConfigurationError("\(setting: "steps") \(c.steps): this model's schedule leaves no step with noise; use more")
        }
        sampler = Sampler(pipeline: pipeline, kernels: kernels, guidance: c.guidanceScale)
        objective = c.algorithm.objective(klCoefficient: c.klCoefficient, clipRange: c.clipRange, lambda: c.subtbLambda)
        lora = LoRAAdapters(rank: c.loraRank, seed: seeds(.loraInitialization), attachingTo: pipeline.unet.linears, device: device)
        policyOptimizer = AdamW(lora.parameters, learningRate: c.learningRate, weightDecay: c.weightDecay)
        func newFlow(_ store: ParameterStore) throws -> any FlowNetwork {
            try StateFlow(
                store, sampleShape: pipeline.sampleShape, textWidth: pipeline.textWidth,
                widths: StateFlow.widths(beside: pipeline.unet.channels), dtype: pipeline.unet.dtype)
        }
        flow = objective.usesFlow ? try (makeFlow ?? newFlow)(ParameterStore(seed: seeds(.flowInitialization), device: device)) : nil
        flowOptimizer = flow.map { AdamW($0.parameters, learningRate: c.flowLearningRate, weightDecay: c.weightDecay) }
        self.configuration = c
        self.evaluator = evaluator
        self.prompts = prompts
        self.evaluationPrompts = evaluationPrompts ?? prompts
        self.output = output
    }

    deinit { evaluator.abandon() }

    /// Gives scores up that are being waited for. No reward is at work when this returns; the epoch's trajectories have to be sampled anew.
    public func abandonScores() {
        if case .sampled = stage { stage = .start }
        evaluator.abandonAndWait()
    }

    /// Asks the work under way, or the next if that is complete before it looks, to end by throwing `Cancelled`; it may then be asked for
    /// again. An optimiser step that is not complete leaves no trace. Rewards that are being asked are not waited for. May be called from
    /// any thread.
    public func cancel() { cancelled.store(true, ordering: .relaxed) }

    /// Throws `Cancelled` if `cancel` was called, once, or if `shouldStop`.
    public func checkCancellation() throws { if shouldStop() || cancelled.exchange(false, ordering: .relaxed) { throw Cancelled() } }

    private var isCancelled: Bool { cancelled.load(ordering: .relaxed) || shouldStop() }

    /// Reports how far the work is.
    func report(_ phase: Phase, _ done: Int, _ total: Int) {
        latestProgress = (phase, done, total)
        onProgress(phase, done, total)
    }

    /// To be called at each of so many steps of sampling: reports it, then checks, by default whether the work is cancelled.
    func sampling(steps: Int, check: (() throws -> Void)? = nil) -> () throws -> Void {
        var done = 0
        return { [unowned self] in
            report(.sampling, done, steps)
            done += 1
            if let check { try check() } else { try checkCancellation() }
        }
    }

    /// While rewards are waited for: reports the same again, so that whoever watches may cancel. Throws `Cancelled`.
    func checkWhileWaiting() throws {
        onProgress(latestProgress.phase, latestProgress.done, latestProgress.total)
        try checkCancellation()
    }

    /// Epochs that are complete, by this run and those that it continues.
    public var epochsDone: Int { progress.epoch }
    /// Optimiser steps done in the epoch under way.
    public var updatesDone: Int { progress.update }
    /// Optimiser steps done, by this run and those that it continues.
    public var stepsDone: Int { progress.step }

    /// What is about to be trained, in one line.
    public var summary: String {
        let c = configuration
        let precision = pipeline.unet.dtype == .bfloat16 ? "bf16" : "fp32"
        return
            "\(c.algorithm.rawValue) on \(c.model): \(prompts.name) (\(prompts.prompts.count) prompts), \(c.trajectoriesPerEpoch) trajectories x \(kernels.transitions) transitions an epoch, \(c.updatesPerEpoch) optimiser steps, \(precision) on \(pipeline.device), libtorch \(Torch.version)"
    }

    // MARK: The main path

    /// Trains until the last epoch; what ends it early, a stop or an error, is thrown after saving.
    public func run() throws {
        while progress.epoch < configuration.epochs { try runEpoch() }
        try writeOwed()
    }

    /// One epoch: roll out, score, update on all of it; what is under way already is completed. What ends it early is thrown after saving.
    public func runEpoch() throws {
        do {
            if case .start = stage { try rollOut() }
            if case .sampled = stage { try score() }
            while try !update() {}
        } catch {
            do { try save() } catch {
                onWarning("what was learned since the newest checkpoint is not saved: \(ErrorReport.line(for: error, .key))")
            }
            throw error
        }
    }

    /// Samples the trajectories of the next epoch, while they are being scored. When it throws, no reward is asked any more.
    public func rollOut() throws {
        let epochs = configuration.epochs
        guard case .start = stage else { throw OrderError("the trajectories of epoch \(progress.epoch) are there: score them or update") }
        try writeOwed()
        guard progress.epoch < epochs else {
            throw OrderError("all \(epochs) epochs are done; go on with more by resuming with a larger epochs")
        }
        do { stage = try sampled() } catch {
            evaluator.abandon()
            throw error
        }
    }

    private func sampled() throws -> Stage {
        let (c, epoch) = (configuration, progress.epoch)
        epochStart = .now
        if evaluator.wantsStatistics { try calibrateRewards() }
        // A trajectory is a function of its own seed, so batches may be larger than asked for where that costs no memory to speak of.
        let batch = max(c.sampleBatchSize, rowsPerPass / pipeline.rowsPerSample(guidance: c.guidanceScale))
        let batches = Array(0..<c.trajectoriesPerEpoch).chunks(of: batch)
        let step = sampling(steps: batches.count * kernels.steps.count)
        var scored: [Rollout] = []
        var last: UnscoredRollout?
        for indices in batches {
            let next = try sampler.rollOut(
                indices.map { prompts.prompts[Int(seeds(.prompt, epoch: epoch, index: $0) % UInt64(prompts.prompts.count))] },
                seeds: indices.map { seeds(.rollout, epoch: epoch, index: $0) }, ids: indices.map(sampleID), evaluator: evaluator,
                lookahead: objective.usesFlow && c.forwardLooking == .rollout, reference: c.target == .anchored, check: step)
            // One batch is scored while the next is sampled, and no more are kept waiting.
            if let last { scored.append(try last.scored(check: checkWhileWaiting)) }
            last = next
        }
        return last.map { .sampled(scored: scored, last: $0) } ?? .start
    }

    /// Waits for the scores of the trajectories. When it throws, no reward is asked any more.
    public func score() throws {
        let sampled = stage
        guard case .sampled(let scored, let last) = sampled else { throw OrderError("there are no trajectories to score: roll out first") }
        defer { evaluator.abandon() }
        stage = .start  // Scores that failed are not asked for again: their trajectories are sampled anew.
        let rollout: Rollout
        do { rollout = Rollout(concatenating: scored + [try last.scored(check: checkWhileWaiting)]) } catch let cancelled as Cancelled {
            stage = sampled
            throw cancelled
        }
        try report(rollout)
        progress.advantages =
            configuration.perPromptStatistics
            ? progress.promptStatistics.advantages(rollout.rewards, prompts: rollout.prompts)
            : PromptStatistics.epochAdvantages(rollout.rewards)
        try begin(rollout)
    }

    /// The scored trajectories of the epoch under way.
    var rollout: Rollout? { if case .scored(let epoch) = stage { epoch.rollout } else { nil } }

    /// What rewards know a trajectory of the epoch under way by: its number over the run.
    func sampleID(_ index: Int) -> UInt64 { UInt64(progress.epoch * configuration.trajectoriesPerEpoch + index) }

    /// Decodes the last states of trajectories again.
    private func finalPictures(_ rollout: Rollout) throws -> ImageBatch {
        let blocks = Array(0..<rollout.count).chunks(of: max(1, configuration.sampleBatchSize))
        return try ImageBatch(concatenating: blocks.map { try pipeline.decode(rollout.states[kernels.transitions].rows($0)) })
    }

    /// Makes scored trajectories those of the epoch under way.
    private func begin(_ rollout: Rollout) throws {
        let epoch = progress.epoch
        let (conditioning, images) = (try pipeline.encode(rollout.prompts), try rollout.images ?? finalPictures(rollout))
        stage = .scored(
            ScoredEpoch(
                rollout: rollout, conditioning: conditioning,
                order: seeds.permutation(.shuffle, epoch: epoch, count: rollout.count), diversity: diversity(images, rollout.prompts),
                baseDivergence: try baseDivergence(rollout, conditioning), start: epochStart, firstUpdate: progress.update))
        samples = ScoredSamples(
            epoch: epoch, images: images, prompts: rollout.prompts,
            ids: rollout.prompts.indices.map(sampleID),
            seeds: rollout.prompts.indices.map { seeds(.rollout, epoch: epoch, index: $0) }, rewards: rollout.rewards,
            objectives: evaluator.objectiveNames.map { ($0, rollout.objectives[$0] ?? []) })
    }

    /// One optimiser step on the next of the epoch's trajectories. The last one ends the epoch: it saves, as often as the settings say.
    /// What of that fails, or is cancelled, is made up for before the next epoch.
    /// - Returns: whether the epoch is complete.
    public func update() throws -> Bool {
        guard case .scored(let epoch) = stage else { throw OrderError("there are no scored trajectories: roll out and score first") }
        try checkCancellation()
        let size = configuration.trajectoriesPerUpdate
        let trajectories = Array(epoch.order[progress.update * size..<(progress.update + 1) * size])
        let sums = try update(epoch.rollout, epoch.conditioning, trajectories)
        progress.update += 1
        progress.step += 1
        let trained = (progress.update - epoch.firstUpdate) * size * kernels.transitions
        let metrics = stepMetrics(sums, epoch, transitionsPerSecond: Double(trained) / epoch.start.duration(to: .now).seconds)
        // What cannot be written changes nothing in what is done.
        let isLast = progress.update == configuration.updatesPerEpoch
        if isLast { close(epoch) }
        try output.append(metrics.json())
        onStep(metrics)
        // The step is made: who cancels now cancels the next call.
        if isLast { do { try writeOwed { [self] in if isCancelled { throw Cancelled() } } } catch is Cancelled {} }
        return isLast
    }

    /// Counts the epoch under way as complete.
    private func close(_ epoch: ScoredEpoch) {
        evaluator.observe(epoch.rollout.objectives)
        progress.rewardMoments = evaluator.normalization
        for warning in progress.watch.observe(watched(epoch)) { onWarning("epoch \(progress.epoch): \(warning)") }
        stage = .start
        progress.epoch += 1
        progress.update = 0
        owesWriting = true
    }

    /// Writes what the settings ask for after the newest epoch, unless it is written. Until the next epoch the weights stay as they are.
    private func writeOwed(check: (() throws -> Void)? = nil) throws {
        guard owesWriting else { return }
        if isDue(every: configuration.checkpointEvery) { try save() }
        if isDue(every: configuration.sampleEvery) { try saveSamples(check: check) }
        owesWriting = false
    }

    /// Whether what is written every so many epochs, 0 for never, and after the last one is due after the newest.
    private func isDue(every epochs: Int) -> Bool {
        epochs > 0 && (progress.epoch == configuration.epochs || progress.epoch % epochs == 0)
    }

    /// Says what could not be scored. Throws `TrainingError` if that is all of it.
    private func report(_ rollout: Rollout) throws {
        guard let failure = rollout.firstFailure else { return }
        guard rollout.dropped < rollout.count else {
            throw TrainingError("all \(rollout.count) trajectories of epoch \(progress.epoch) were dropped: \(failure)")
        }
        let what = Self.shortfall(dropped: rollout.dropped, of: "\(rollout.count) trajectories", imputed: rollout.imputed)
        onWarning("epoch \(progress.epoch): \(what): \(failure)")
    }

    /// What rewards could not score, in words.
    static func shortfall(dropped: Int, of what: String, imputed: Int) -> String {
        let parts = [dropped > 0 ? "\(dropped) of \(what) were dropped" : nil, imputed > 0 ? "\(imputed) scores were assumed" : nil]
        let said = parts.compactMap { $0 }.joined(separator: ", ")
        return said.isEmpty ? "a reward that is only logged has gaps" : said
    }

    /// Writes the adapter and a checkpoint.
    public func save() throws {
        progress.metricsLength = output.metricsLength
        let rollout = rollout
        let state = SavedState(progress: progress, hasRollout: rollout != nil)
        if state == saved { return }
        let tensors = policyOptimizer.state("lora").merging(flowOptimizer?.state("flow") ?? [:]) { first, _ in first }
        try Checkpoint(progress: progress, rewards: evaluator.fingerprint, tensors: tensors, rollout: rollout).save(to: output)
        try OutputFolder.writeAtomically(lora.encoded(), to: output.lora)
        saved = state
    }

    /// Goes on where the newest checkpoint of `folder` stands.
    public func resume(from folder: OutputFolder) throws {
        let checkpoint = try Checkpoint(newestOf: folder)
        if let difference = evaluator.difference(from: checkpoint.rewards) {
            throw OutputError("\(setting: "resume") \(folder.url.path): that run was trained with other rewards: \(difference)")
        }
        if let rollout = checkpoint.rollout {
            let lookahead = objective.usesFlow && configuration.forwardLooking == .rollout ? kernels.transitions : 0
            guard rollout.states.count == kernels.transitions + 1, rollout.count == configuration.trajectoriesPerEpoch,
                rollout.lookahead.count == lookahead, checkpoint.progress.update < configuration.updatesPerEpoch
            else {
                throw OutputError(
                    "\(setting: "resume") \(folder.url.path): that run stopped in the middle of an epoch that had other settings")
            }
        }
        try policyOptimizer.restore(checkpoint.tensors, "lora")
        try flowOptimizer?.restore(checkpoint.tensors, "flow")
        progress = checkpoint.progress
        evaluator.normalization = progress.rewardMoments
        try output.truncateMetrics(to: progress.metricsLength)
        epochStart = .now
        if let rollout = checkpoint.rollout { try begin(rollout.moved(to: pipeline.device)) }
        // A run may have been stopped while it drew its sheet.
        owesWriting =
            progress.epoch > 0 && rollout == nil && isDue(every: configuration.sampleEvery)
            && !FileManager.default.fileExists(atPath: output.sampleSheet(epoch: progress.epoch).path)
    }
}
