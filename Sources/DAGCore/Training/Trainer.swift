import Foundation
import Models
import NN
import Rewards
import Synchronization
import Tensors

/// Training that cannot go on, in one line that says what to do.
public struct TrainingError: Error, CustomStringConvertible {
    /// One line: what happened and the remedy.
    public let description: String
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
    /// What a progress report is about.
    public enum Phase: Sendable { case sampling, evaluating }

    let kernels: TransitionKernels
    let sampler: Sampler
    let evaluator: RewardEvaluator
    let prompts: PromptSet
    let seeds: Seeds
    let output: OutputFolder
    let lora: LoRAAdapters
    let flow: StateFlow?
    let objective: any Objective
    private let policyOptimizer: AdamW
    private let flowOptimizer: AdamW?
    var progress = Checkpoint.Progress()
    private var rollout: Rollout?
    /// What the newest checkpoint holds, so that it is not written twice.
    private struct SavedState: Equatable {
        let progress: Checkpoint.Progress
        let hasRollout: Bool
    }
    private var saved: SavedState?
    private let cancelled = Atomic(false)

    /// Loads the model and prepares training; nothing is written yet.
    /// - Parameters:
    ///   - evaluator: the rewards.
    ///   - prompts: what trajectories are sampled for; ignored by models without text.
    public convenience init(
        _ configuration: TrainingConfiguration, evaluator: RewardEvaluator, prompts: PromptSet, output: OutputFolder
    ) throws {
        try configuration.check()
        let device = try configuration.device.resolve()
        if configuration.threads > 0 { Torch.threads = configuration.threads }
        let pipeline = try DiffusionPipeline(
            folder: configuration.model, dtype: configuration.precision.resolve(on: device), device: device)
        if pipeline.textWidth != nil, configuration.prompts.isEmpty {
            throw ConfigurationError("--prompts is missing: a file or a built-in set, \(PromptSet.builtInNames.joined(separator: ", "))")
        }
        try self.init(configuration, pipeline: pipeline, evaluator: evaluator, prompts: prompts, output: output)
    }

    /// Prepares training of a model that is loaded.
    init(
        _ c: TrainingConfiguration, pipeline: DiffusionPipeline, evaluator: RewardEvaluator, prompts: PromptSet, output: OutputFolder
    ) throws {
        let device = pipeline.device
        seeds = Seeds(c.seed)
        self.pipeline = pipeline
        kernels = try TransitionKernels(scheduler: pipeline.scheduler, steps: c.steps, eta: c.eta, reduction: c.logProb, device: device)
        guard kernels.transitions > 0 else {
            throw ConfigurationError("--steps \(c.steps): this model's schedule leaves no step with noise; use more")
        }
        sampler = Sampler(pipeline: pipeline, kernels: kernels, guidance: c.guidanceScale)
        objective = c.algorithm.objective(klCoefficient: c.klCoefficient, clipRange: c.clipRange)
        lora = LoRAAdapters(rank: c.loraRank, seed: seeds(.loraInitialization), attachingTo: pipeline.unet.linears, device: device)
        policyOptimizer = AdamW(lora.parameters, learningRate: c.learningRate, weightDecay: c.weightDecay)
        flow =
            objective.usesFlow
            ? try StateFlow(
                ParameterStore(seed: seeds(.flowInitialization), device: device), sampleShape: pipeline.sampleShape,
                textWidth: pipeline.textWidth, dtype: pipeline.unet.dtype) : nil
        flowOptimizer = flow.map { AdamW($0.parameters, learningRate: c.flowLearningRate, weightDecay: c.weightDecay) }
        self.configuration = c
        self.evaluator = evaluator
        self.prompts = prompts
        self.output = output
    }

    /// Asks the run to stop after the optimiser step or sampling step under way. May be called from any thread.
    public func cancel() { cancelled.store(true, ordering: .relaxed) }

    func checkCancellation() throws { if cancelled.load(ordering: .relaxed) { throw Cancelled() } }

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
        do {
            while progress.epoch < configuration.epochs { try runEpoch() }
        } catch {
            // The weights are those of the last optimiser step; if they cannot be saved, the first error says why.
            try? save()
            throw error
        }
    }

    /// One epoch: roll out and score, update on all of it, save.
    public func runEpoch() throws {
        let start = ContinuousClock.now
        let rollout = try self.rollout ?? rollOut()
        self.rollout = rollout
        let conditioning = try pipeline.encode(rollout.prompts)
        let order = seeds.permutation(.shuffle, epoch: progress.epoch, count: rollout.count)
        let size = configuration.trajectoriesPerUpdate
        let updates = rollout.count / size
        let firstUpdate = progress.update
        while progress.update < updates {
            try checkCancellation()
            let trajectories = Array(order[progress.update * size..<(progress.update + 1) * size])
            let sums = try update(rollout, conditioning, trajectories)
            progress.update += 1
            progress.step += 1
            let trained = (progress.update - firstUpdate) * size * kernels.transitions
            let metrics = stepMetrics(sums, rollout, transitionsPerSecond: Double(trained) / start.duration(to: .now).seconds)
            try output.append(metrics.json())
            onStep(metrics)
        }
        evaluator.observe(rollout.objectives)
        progress.rewardMoments = evaluator.normalization
        self.rollout = nil
        progress.epoch += 1
        progress.update = 0
        if progress.epoch == configuration.epochs || progress.epoch % configuration.checkpointEvery == 0 { try save() }
        if configuration.sampleEvery > 0, progress.epoch == configuration.epochs || progress.epoch % configuration.sampleEvery == 0 {
            try saveSamples()
        }
    }

    /// Samples and scores the trajectories of the epoch.
    func rollOut() throws -> Rollout {
        let (c, epoch) = (configuration, progress.epoch)
        if evaluator.wantsStatistics { try calibrateRewards() }
        // A trajectory is a function of its own seed, so batches may be larger than asked for where that costs no memory to speak of.
        let batch = max(c.sampleBatchSize, rowsPerPass / pipeline.rowsPerSample(guidance: c.guidanceScale))
        let batches = Array(0..<c.trajectoriesPerEpoch).blocks(of: batch)
        var done = 0
        let parts = try batches.map { indices in
            try sampler.rollOut(
                indices.map { prompts.prompts[Int(seeds(.prompt, epoch: epoch, index: $0) % UInt64(prompts.prompts.count))] },
                seeds: indices.map { seeds(.rollout, epoch: epoch, index: $0) },
                ids: indices.map { UInt64(epoch * c.trajectoriesPerEpoch + $0) }, evaluator: evaluator,
                lookahead: objective.usesFlow && c.forwardLooking == .rollout
            ) {
                try checkCancellation()
                onProgress(.sampling, done, batches.count * kernels.steps.count)
                done += 1
            }
        }
        let rollout = Rollout(concatenating: parts)
        try report(rollout)
        progress.advantages =
            c.perPromptStatistics
            ? progress.promptStatistics.advantages(rollout.rewards, prompts: rollout.prompts)
            : PromptStatistics.epochAdvantages(rollout.rewards)
        return rollout
    }

    /// Says what could not be scored. Throws `TrainingError` if that is all of it.
    private func report(_ rollout: Rollout) throws {
        guard let failure = rollout.firstFailure else { return }
        guard rollout.dropped < rollout.count else {
            throw TrainingError(description: "all \(rollout.count) trajectories of epoch \(progress.epoch) were dropped: \(failure)")
        }
        let what =
            rollout.imputed > 0
            ? "\(rollout.imputed) scores were assumed" : "\(rollout.dropped) of \(rollout.count) trajectories were dropped"
        onWarning("epoch \(progress.epoch): \(what): \(failure)")
    }

    /// Writes the adapter and a checkpoint.
    public func save() throws {
        progress.metricsLength = output.metricsLength
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
        guard checkpoint.rewards == evaluator.fingerprint else {
            throw OutputError("--resume \(folder.url.path): that run was trained with other rewards (\(checkpoint.rewards))")
        }
        if let rollout = checkpoint.rollout {
            let lookahead = objective.usesFlow && configuration.forwardLooking == .rollout ? kernels.transitions : 0
            guard rollout.states.count == kernels.transitions + 1, rollout.count == configuration.trajectoriesPerEpoch,
                rollout.lookahead.count == lookahead, checkpoint.progress.update < configuration.updatesPerEpoch
            else {
                throw OutputError("--resume \(folder.url.path): that run stopped in the middle of an epoch that had other settings")
            }
        }
        try policyOptimizer.restore(checkpoint.tensors, "lora")
        try flowOptimizer?.restore(checkpoint.tensors, "flow")
        progress = checkpoint.progress
        evaluator.normalization = progress.rewardMoments
        rollout = checkpoint.rollout?.moved(to: pipeline.device)
        try output.truncateMetrics(to: progress.metricsLength)
    }

    // MARK: One optimiser step

    /// Accumulates the gradients of all transitions of `trajectories`, pass by pass, and makes one step with both optimisers.
    func update(_ rollout: Rollout, _ conditioning: Conditioning?, _ trajectories: [Int]) throws -> UpdateSums {
        var sums = UpdateSums()
        // Dropped trajectories have no part in the mean.
        let kept = trajectories.count { !rollout.rewards[$0].isNaN }
        let transitions = Double(max(1, kept) * kernels.transitions)
        for block in trajectories.blocks(of: passShape.trajectories) {
            // From data to noise: the reward of a transition's later state is known from the pass before.
            var laterRewards = block.map { rollout.rewards[$0] }
            var end = kernels.transitions
            while end > 0 {
                let range = max(0, end - passShape.steps)..<end
                let pass = try self.pass(rollout, conditioning, block, range, laterRewards: laterRewards)
                try (pass.loss.sum() / transitions).backward()
                try sums.add(pass)
                laterRewards = pass.firstRewards
                end = range.lowerBound
            }
        }
        sums.policyGradNorm = try policyOptimizer.clipGradients(maxNorm: configuration.maxGradNorm)
        sums.flowGradNorm = try flowOptimizer?.clipGradients(maxNorm: configuration.maxGradNorm) ?? 0
        guard sums.mean(sums.loss).isFinite, sums.policyGradNorm.isFinite, sums.flowGradNorm.isFinite else {
            throw TrainingError(
                description:
                    "loss or gradient is not finite in step \(progress.step): lower --learning-rate, --flow-learning-rate or --beta, or use --precision fp32; the weights before this step are kept"
            )
        }
        guard kept > 0 else { return sums }
        try policyOptimizer.step()
        try flowOptimizer?.step()
        return sums
    }

    /// What one pass over some transitions gives, differentiable.
    struct Pass {
        let loss: Tensor
        let transitions: Transitions
        let regularization: Tensor?
        /// Rewards of the predicted data at the first (noisiest) state of the range.
        let firstRewards: [Float]
    }

    /// The loss of the transitions of a block of trajectories at a range of steps, [steps x trajectories].
    func pass(
        _ rollout: Rollout, _ conditioning: Conditioning?, _ block: [Int], _ range: Range<Int>, laterRewards: [Float]
    ) throws -> Pass {
        func gather(_ list: [Tensor], _ range: Range<Int>) -> Tensor { Tensor.cat(range.map { list[$0].rows(block) }, 0) }
        func repeated(_ count: Int) -> [Int] { (0..<count).flatMap { _ in block } }
        let stepNumbers = range.flatMap { step in block.map { _ in step } }
        let indices = Tensor(stepNumbers.map(Int64.init), device: pipeline.device)
        let times = kernels.times(stepNumbers, device: pipeline.device)
        let x = gather(rollout.states, range)
        let next = gather(rollout.states, range.lowerBound + 1..<range.upperBound + 1)

        let (guided, conditional) = pipeline.denoise(
            x, times: times, conditioning?.rows(repeated(range.count)), guidance: configuration.guidanceScale)
        var rewards = try lookaheadRewards(rollout, block, range, conditional, x: x, indices: indices)
        let firstRewards = rewards.first ?? laterRewards
        let weight = weights(rollout, block, range, rewards + [laterRewards])
        rewards = (rewards + [laterRewards]).map { $0.map { $0.isNaN ? 0 : $0 } }
        let transitions = Transitions(
            logForward: kernels.logForward(guided, x: x, next: next, steps: indices),
            logForwardAtRollout: gather(rollout.logForward, range),
            logBackward: kernels.logBackward(x: x, next: next, steps: indices),
            logFlow: flow.map { logFlows($0, rollout, conditioning, block, range, rewards: rewards) },
            advantage: Tensor(repeated(range.count).map { progress.advantages[$0] }, device: pipeline.device),
            weight: Tensor(weight, device: pipeline.device), groupSize: min(configuration.trainBatchSize, block.count))

        var loss = objective.loss(transitions)
        var regularization: Tensor?
        if objective.usesFlow, configuration.unetRegularization > 0 {
            let distance = (guided - gather(rollout.guided, range)).square().mean(Array(1..<x.rank))
            regularization = distance
            loss = loss + distance * configuration.unetRegularization
        }
        return Pass(
            loss: loss * transitions.weight, transitions: transitions, regularization: regularization, firstRewards: firstRewards)
    }

    /// Zero for the transitions of dropped trajectories and those at a state whose predicted data could not be scored, else one.
    /// - Parameter rewards: [steps + 1][trajectories]; of an objective without a flow the last alone.
    private func weights(_ rollout: Rollout, _ block: [Int], _ range: Range<Int>, _ rewards: [[Float]]) -> [Float] {
        range.indices.flatMap { step in
            block.indices.map { k in
                let states = rewards.count == 1 ? rewards[0...0] : rewards[step - range.lowerBound...step - range.lowerBound + 1]
                return rollout.rewards[block[k]].isNaN || states.contains { $0[k].isNaN } ? 0 : 1
            }
        }
    }

    /// Rewards of the predicted data at the states of a range, [steps][trajectories]: from the rollout, or with the current weights.
    private func lookaheadRewards(
        _ rollout: Rollout, _ block: [Int], _ range: Range<Int>, _ conditional: Tensor, x: Tensor, indices: Tensor
    ) throws -> [[Float]] {
        guard objective.usesFlow else { return [] }
        if configuration.forwardLooking == .rollout { return range.map { step in block.map { rollout.lookahead[step][$0] } } }
        let images = try withoutGradients { try pipeline.decode(kernels.predictedData(conditional.detach(), x: x, steps: indices)) }
        let trajectories = range.flatMap { _ in block }
        let report = try evaluator.score(
            RewardBatch(
                images: images, prompts: trajectories.map { rollout.prompts[$0] },
                sampleIDs: trajectories.map { UInt64(progress.epoch * configuration.trajectoriesPerEpoch + $0) },
                seeds: trajectories.map { seeds(.rollout, epoch: progress.epoch, index: $0) }))
        return report.reward.blocks(of: block.count)
    }

    /// log F(x_t) and log F(x_t') of a range: beta R(x0 predicted) + f_phi, and beta R alone at the end.
    /// - Parameter rewards: [steps + 1][trajectories].
    private func logFlows(
        _ flow: StateFlow, _ rollout: Rollout, _ conditioning: Conditioning?, _ block: [Int], _ range: Range<Int>, rewards: [[Float]]
    ) -> (now: Tensor, next: Tensor) {
        let states = range.lowerBound...min(range.upperBound, kernels.transitions - 1)
        let x = Tensor.cat(states.map { rollout.states[$0].rows(block) }, 0)
        let times = kernels.times(states.flatMap { step in block.map { _ in step } }, device: pipeline.device)
        var learned = flow(x, times: times, context: conditioning?.prompts.rows(states.flatMap { _ in block }))
        if range.upperBound == kernels.transitions {
            learned = Tensor.cat([learned, Tensor.zeros([block.count], device: pipeline.device)], 0)
        }
        let scored = Tensor(rewards.flatMap { $0 }, device: pipeline.device) * configuration.beta(epoch: progress.epoch)
        let logFlow = learned + scored
        let count = range.count * block.count
        return (logFlow.narrow(0, 0, count), logFlow.narrow(0, block.count, count))
    }

    /// U-Net rows that are computed at once in training: they decide memory and speed, never the result.
    private var rowsPerPass: Int {
        let positions = pipeline.sampleShape[1] * pipeline.sampleShape[2]
        return configuration.maxRowsPerPass > 0 ? configuration.maxRowsPerPass : max(16, 8192 / positions)
    }

    /// Trajectories and steps that one pass takes: whole trajectories where they fit, else some steps of one group.
    private var passShape: (trajectories: Int, steps: Int) {
        let c = configuration
        let samples = max(c.trainBatchSize, rowsPerPass / pipeline.rowsPerSample(guidance: c.guidanceScale))
        guard samples >= c.trainBatchSize * kernels.transitions else { return (c.trainBatchSize, samples / c.trainBatchSize) }
        return (min(c.trajectoriesPerUpdate, samples / kernels.transitions / c.trainBatchSize * c.trainBatchSize), kernels.transitions)
    }

    private func stepMetrics(_ sums: UpdateSums, _ rollout: Rollout, transitionsPerSecond: Double) -> StepMetrics {
        let reward = PromptStatistics.moments(evaluator.total(rollout.objectives))
        return StepMetrics(
            epoch: progress.epoch, step: progress.step - 1, rewardMean: Double(reward.mean), rewardStd: Double(reward.deviation),
            objectives: rollout.objectives.mapValues { Double(PromptStatistics.moments($0).mean) }, loss: sums.mean(sums.loss),
            squaredResidual: sums.mean(sums.squaredResidual), regularization: sums.mean(sums.regularization),
            ratioDeviation: sums.ratioDeviation, clipFraction: sums.mean(sums.clipped(configuration.clipRange)),
            policyGradNorm: sums.policyGradNorm, flowGradNorm: sums.flowGradNorm, beta: configuration.beta(epoch: progress.epoch),
            trajectories: (progress.epoch + 1) * configuration.trajectoriesPerEpoch, dropped: rollout.dropped, imputed: rollout.imputed,
            transitionsPerSecond: transitionsPerSecond)
    }
}
