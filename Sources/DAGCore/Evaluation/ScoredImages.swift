import Images
import Rewards
import Support

/// Images of fixed prompts and seeds by one sampler, and what is known of each.
package struct ScoredImages: Sendable {
    /// N images.
    package let images: ImageBatch
    /// [N]; of empty text for a model without text.
    package let prompts: [Prompt]
    /// The scores of the images.
    package let report: RewardReport
    /// KL(P_theta || P_base) along each image's trajectory, nats [N]: see `Sampler.imagesAndDivergences`.
    package let divergences: [Double]
    /// Thumbnails of the images, [N][rows * columns * 3]: see `ImageBatch.thumbnail`.
    let thumbnails: [[Double]]
    /// Features of the images, if there is a network for them.
    package var features: ImageFeatures?

    /// - Parameter divergences: one for each image; 0 for those of the pretrained model.
    package init(images: ImageBatch, prompts: [Prompt], report: RewardReport, divergences: [Double]) {
        self.images = images
        self.prompts = prompts
        self.report = report
        self.divergences = divergences
        thumbnails = (0..<images.count).map(images.thumbnail)
    }
}

/// Draws images of fixed prompts and seeds, in the steps of a training, and has them scored.
package struct ScoringSampler {
    private let sampler: Sampler
    private let evaluator: RewardEvaluator
    private let seeds: Seeds
    /// Images computed at once: it changes memory and speed, and images by rounding alone.
    private let batch: Int

    /// - Parameters:
    ///   - configuration: steps, eta, guidance, seed and memory settings.
    ///   - model: the pretrained model, with adapters if a LoRA is to be drawn from.
    /// - Throws: `ConfigurationError` or `ModelError` if the model has no such steps.
    package init(_ configuration: TrainingConfiguration, model: any DiffusionModel, evaluator: RewardEvaluator) throws {
        let kernel = try model.kernel(steps: configuration.steps, eta: configuration.eta, reduction: configuration.logProb)
        sampler = Sampler(model: model, kernel: kernel, guidance: configuration.guidanceScale)
        self.evaluator = evaluator
        seeds = Seeds(configuration.seed)
        batch = configuration.samplesPerPass(of: model)
    }

    /// Draws and scores images of the pretrained model and, with the same prompts and seeds, of its LoRA.
    /// They are those of a run's evaluations, as far as these go.
    ///
    /// Rewards with `normalize=true` take their statistics from the pretrained model's images.
    /// - Parameters:
    ///   - count: images of each prompt; more begin with the same ones.
    ///   - hasLoRA: whether adapters are attached to the model.
    /// - Throws: `NotFiniteError`, `TensorError`, `RewardError`, `Cancelled`.
    package func draw(_ prompts: PromptSet, count: Int, hasLoRA: Bool) throws -> (base: ScoredImages, lora: ScoredImages?) {
        let (chosen, noise) = prompts.fixedSamples(count * prompts.prompts.count, seeds)
        let batches = Array(chosen.indices).chunks(of: batch)
        let onStep = evaluator.monitor.samplingSteps((hasLoRA ? 2 : 1) * batches.count * sampler.kernel.stepCount)
        func batchToScore(_ places: [Int], _ images: ImageBatch) throws -> RewardBatch {
            try RewardBatch(
                images: images, prompts: places.map { chosen[$0] }, sampleIDs: places.map(UInt64.init), seeds: places.map { noise[$0] })
        }
        /// Draws a batch at a time, which is scored while the next one is drawn.
        func drawn(_ draw: ([Prompt], [UInt64]) throws -> (images: ImageBatch, divergences: [Double])) throws -> ScoredImages {
            var parts: [(images: ImageBatch, divergences: [Double])] = []
            var reports: [RewardReport] = []
            var last: PendingReward?
            for places in batches {
                let part = try draw(places.map { chosen[$0] }, places.map { noise[$0] })
                parts.append(part)
                let next = evaluator.submit(try batchToScore(places, part.images))
                if let last { reports.append(try last.wait()) }
                last = next
            }
            if let last { reports.append(try last.wait()) }
            return ScoredImages(
                images: try ImageBatch(concatenating: parts.map(\.images)), prompts: chosen,
                report: RewardReport(concatenating: reports), divergences: parts.flatMap(\.divergences))
        }
        do {
            var base = try drawn { prompts, noise in
                let images = try sampler.model.withoutAdapters { try sampler.images(prompts, seeds: noise, batch: batch, onStep: onStep) }
                return (images, prompts.map { _ in 0 })
            }
            if evaluator.wantsStatistics {
                evaluator.observe(base.report.objectives)
                let reports = try batches.map { try evaluator.score(batchToScore($0, base.images.picking($0))) }
                base = ScoredImages(
                    images: base.images, prompts: chosen, report: RewardReport(concatenating: reports), divergences: base.divergences)
            }
            return (base, hasLoRA ? try drawn { try sampler.imagesAndDivergences($0, seeds: $1, onStep: onStep) } : nil)
        } catch {
            evaluator.abandon()
            throw error
        }
    }
}
