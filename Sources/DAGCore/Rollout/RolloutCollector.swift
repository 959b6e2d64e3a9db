import Images
import Rewards
import Support
import Tensors

/// Collects the trajectories of an epoch, from prompts and seeds. Images are scored while sampling goes on.
final class RolloutCollector {
    /// Samples as in training, and with the steps of evaluations.
    let sampler, evaluationSampler: Sampler
    let evaluator: RewardEvaluator
    let prompts: PromptSet
    private let configuration: TrainingConfiguration
    private let seeds: Seeds
    private let monitor: Monitor
    private let team: Team
    private var model: any DiffusionModel { sampler.model }

    init(
        _ configuration: TrainingConfiguration, sampler: Sampler, evaluationSampler: Sampler, evaluator: RewardEvaluator,
        prompts: PromptSet, monitor: Monitor, team: Team
    ) {
        self.configuration = configuration
        self.sampler = sampler
        self.evaluationSampler = evaluationSampler
        self.evaluator = evaluator
        self.prompts = prompts
        self.monitor = monitor
        self.team = team
        seeds = Seeds(configuration.seed)
    }

    /// Samples this rank's trajectories of an epoch; the last batch may still be in scoring when this
    /// returns.
    /// - Parameter lookahead: the states whose predicted data is scored.
    /// - Throws: `TensorError`, an error of a reward, or `Cancelled`; pending scores are then given up.
    func rollOut(epoch: Int, lookahead: [Int]) throws -> PendingRollout {
        do { return try sample(epoch, lookahead) } catch {
            evaluator.abandon()
            throw error
        }
    }

    private func sample(_ epoch: Int, _ lookahead: [Int]) throws -> PendingRollout {
        if evaluator.wantsStatistics { try calibrate() }
        // Kernels may round a row by what else is in its batch. In the order of training, batches are the
        // same on any number of ranks.
        let trajectories = configuration.trajectories(of: team.rank, in: team, epoch: epoch)
        let batches = trajectories.chunks(of: configuration.trajectoriesAtOnce(of: model)).map { $0.sorted() }
        let onStep = monitor.samplingSteps(batches.count * sampler.kernel.stepCount)
        var scored: [Rollout] = []
        var last: UnscoredRollout?
        for indices in batches {
            let next = try sampler.rollOut(
                indices.map { prompt($0, epoch: epoch) },
                seeds: indices.map { seed($0, epoch: epoch) }, ids: indices.map { sampleID($0, epoch: epoch) }, evaluator: evaluator,
                lookahead: lookahead, reference: configuration.target == .anchored,
                isPretrained: epoch == 0 && configuration.initLora.isEmpty,
                onStep: onStep)
            // One batch is scored while the next is sampled; more would only take memory.
            if let last { scored.append(try last.scored()) }
            last = next
        }
        return PendingRollout(trajectories: Array(batches.joined()), scored: scored, last: last)
    }

    /// Takes the first statistics of normalised rewards, from one batch of images of the untrained model.
    private func calibrate() throws {
        let objectives = try team.fromLeader("statistics") { _ in
            let (chosen, seeds) = prompts.fixedSamples(configuration.sampleBatchSize, seeds)
            let images = try images(chosen, seeds: seeds, by: sampler)
            let batch = try RewardBatch(images: images, prompts: chosen, sampleIDs: seeds.indices.map(UInt64.init), seeds: seeds)
            return try evaluator.score(batch).objectives
        }
        evaluator.observe(objectives)
    }

    /// Draws images with the current adapter.
    /// - Parameters:
    ///   - prompts: one for each image; of empty text for a model without text.
    ///   - seeds: one for each image.
    /// - Throws: `ConfigurationError` if their numbers differ, `TensorError`, or `Cancelled`.
    func images(_ prompts: [Prompt], seeds: [UInt64], by sampler: Sampler) throws -> ImageBatch {
        guard !prompts.isEmpty, prompts.count == seeds.count else {
            throw ConfigurationError("\(prompts.count) prompts came with \(seeds.count) seeds; give one of each for every image")
        }
        let batch = configuration.sampleBatchSize
        let batches = (prompts.count + batch - 1) / batch
        return try sampler.images(
            prompts, seeds: seeds, batch: batch, onStep: monitor.samplingSteps(batches * sampler.kernel.stepCount))
    }

    /// Decodes the last states of trajectories.
    /// - Throws: `TensorError`, or an error of `Team.exchange`.
    func finalImages(_ rollout: Rollout) throws -> ImageBatch {
        let blocks = Array(rollout.held.indices).chunks(of: configuration.sampleBatchSize)
        let own = try ImageBatch(concatenating: blocks.map { try model.decode(rollout.states[sampler.kernel.transitions].rows($0)) })
        let all = try team.exchange("images", own, of: rollout.held)
        return try ImageBatch(concatenating: all.parts).picking(all.order)
    }

    /// Estimates KL(P_theta || P_base) as the mean over the first eight trajectories: see
    /// `Sampler.baseDivergences`.
    /// - Throws: `TensorError`, or an error of `Team.exchange`.
    func baseDivergence(_ epoch: ScoredEpoch) throws -> Double {
        let watched = epoch.rollout.held.filter { $0 < 8 }
        let all = try team.exchange("base_kl", sampler.baseDivergences(epoch, of: watched), of: watched)
        let divergences = all.parts.flatMap { $0 }
        return all.order.reduce(0) { $0 + divergences[$1] } / Double(divergences.count)
    }

    /// Scores the data that is predicted for states of some trajectories of an epoch.
    /// - Throws: an error of a reward, or `Cancelled`.
    func scorePredictions(_ images: ImageBatch, _ epoch: ScoredEpoch, trajectories: [Int]) throws -> RewardReport {
        try evaluator.score(
            RewardBatch(
                images: images, prompts: trajectories.map { epoch.rollout.prompts[$0] },
                sampleIDs: trajectories.map { sampleID($0, epoch: epoch.index) },
                seeds: trajectories.map { seed($0, epoch: epoch.index) }), heldOut: false)
    }

    /// Gathers the samples of an epoch.
    func samples(of epoch: ScoredEpoch, images: ImageBatch) -> ScoredSamples {
        let prompts = epoch.rollout.prompts
        return ScoredSamples(
            epoch: epoch.index, images: images, prompts: prompts, ids: prompts.indices.map { sampleID($0, epoch: epoch.index) },
            seeds: prompts.indices.map { seed($0, epoch: epoch.index) }, scores: epoch.rollout.scores)
    }

    private func prompt(_ index: Int, epoch: Int) -> Prompt {
        let number = seeds(.prompt, epoch: epoch, index: index / configuration.imagesPerPrompt)
        return prompts.prompts[Int(number % UInt64(prompts.prompts.count))]
    }

    private func seed(_ index: Int, epoch: Int) -> UInt64 { seeds(.rollout, epoch: epoch, index: index) }

    /// The trajectory's number over the run, which rewards are given.
    private func sampleID(_ index: Int, epoch: Int) -> UInt64 { UInt64(epoch * configuration.trajectoriesPerEpoch + index) }
}

/// This rank's sampled trajectories of an epoch, in any order, the last batch of which may still be in
/// scoring.
struct PendingRollout {
    fileprivate let trajectories: [Int]
    fileprivate let scored: [Rollout]
    fileprivate let last: UnscoredRollout?

    /// Waits for the scores; may be called again after a cancellation.
    /// - Throws: an error of a reward, or `Cancelled`.
    func wait() throws -> Rollout {
        var rollout = try Rollout(concatenating: scored + (last.map { [try $0.scored()] } ?? []))
        rollout.held = trajectories
        return rollout
    }
}

extension Monitor {
    /// Returns a function to call at every step of sampling. It reports progress and throws `Cancelled`.
    func samplingSteps(_ total: Int) -> () throws -> Void {
        var done = 0
        return { [unowned self] in
            report(.sampling, done, of: total)
            done += 1
            try throwIfCancelled()
        }
    }
}

extension PromptSet {
    /// Chooses prompts and seeds that are always the same: spread over the set, or the whole set in turn.
    func fixedSamples(_ count: Int, _ seeds: Seeds) -> (prompts: [Prompt], seeds: [UInt64]) {
        let chosen = (0..<count).map { count < prompts.count ? prompts[$0 * prompts.count / count] : prompts[$0 % prompts.count] }
        return (chosen, seeds.batch(.evaluation, count: count))
    }
}

extension TrainingConfiguration {
    /// Returns the network rows to compute at once. They affect memory and speed, not the result.
    func rowsPerPass(of model: any DiffusionModel) -> Int {
        let positions = model.sampleShape[1] * model.sampleShape[2]
        return maxRowsPerPass > 0 ? maxRowsPerPass : max(16, 4096 / positions)
    }

    /// Returns the samples whose network rows are computed at once.
    func samplesPerPass(of model: any DiffusionModel) -> Int {
        max(1, rowsPerPass(of: model) / model.rowsPerSample(guidance: guidanceScale))
    }

    /// Returns the trajectories to sample at once. Each is a function of its own seed, so these may be as
    /// many as memory allows.
    func trajectoriesAtOnce(of model: any DiffusionModel) -> Int {
        max(sampleBatchSize, samplesPerPass(of: model))
    }
}
