import Foundation
import Images
import Rewards
import Tensors

extension Trainer {
    /// Pictures of a sample sheet.
    private static let sheetSize = 16

    /// Fixed prompts and seeds, for evaluation and sample sheets: spread over the prompt set, or all of it again and again.
    private func fixedSamples(_ count: Int, of set: PromptSet) -> (prompts: [String], seeds: [UInt64]) {
        let all = set.prompts
        let chosen = (0..<count).map { count < all.count ? all[$0 * all.count / count] : all[$0 % all.count] }
        return (chosen, seeds.batch(.evaluation, count: count))
    }

    /// Scores pictures of fixed prompts and seeds with the current adapter, and appends them to metrics.jsonl.
    public func evaluate() throws -> Evaluation {
        guard configuration.evaluationSamples > 0 else {
            throw ConfigurationError("\(setting: "evaluation_samples") is 0: set it to evaluate")
        }
        let (prompts, seeds) = fixedSamples(configuration.evaluationSamples, of: evaluationPrompts)
        let batch = max(1, configuration.sampleBatchSize)
        var reports: [RewardReport] = []
        for start in stride(from: 0, to: prompts.count, by: batch) {
            report(.evaluating, start, prompts.count)
            let range = start..<min(start + batch, prompts.count)
            let images = try sampler.pictures(Array(prompts[range]), seeds: Array(seeds[range]), batch: batch, check: checkWhileWaiting)
            reports.append(
                try evaluator.score(
                    RewardBatch(
                        images: images, prompts: Array(prompts[range]), sampleIDs: range.map(UInt64.init), seeds: Array(seeds[range])),
                    check: checkWhileWaiting))
        }
        let report = RewardReport(concatenating: reports)
        let evaluation = Evaluation(report, of: evaluator)
        if let failure = report.firstFailure {
            let what = Self.shortfall(
                dropped: evaluation.count - evaluation.scored, of: "\(evaluation.count) pictures", imputed: report.imputed)
            onWarning("evaluation: \(what): \(failure)")
        }
        try output.append(evaluation.json(epoch: progress.epoch))
        return evaluation
    }

    /// Gives rewards that are to be normalised their first statistics: of one batch of pictures of the untrained model.
    func calibrateRewards() throws {
        let (prompts, seeds) = fixedSamples(configuration.sampleBatchSize, of: prompts)
        let images = try sample(prompts, seeds: seeds)
        let batch = try RewardBatch(images: images, prompts: prompts, sampleIDs: seeds.indices.map(UInt64.init), seeds: seeds)
        evaluator.observe(try evaluator.score(batch, check: checkWhileWaiting).objectives)
    }

    /// Pictures with the current adapter, of the run's steps, eta and guidance; picture k is a function of prompt k and seed k alone.
    /// - Parameters:
    ///   - prompts: one a picture; "" for a model without text.
    ///   - seeds: one a picture.
    public func sample(_ prompts: [String], seeds: [UInt64]) throws -> ImageBatch {
        try sample(prompts, seeds: seeds, check: nil)
    }

    private func sample(_ prompts: [String], seeds: [UInt64], check: (() throws -> Void)?) throws -> ImageBatch {
        guard !prompts.isEmpty, prompts.count == seeds.count else {
            throw ConfigurationError("\(prompts.count) prompts came with \(seeds.count) seeds; give one of each a picture")
        }
        let batch = configuration.sampleBatchSize
        let steps = (prompts.count + batch - 1) / batch * kernels.steps.count
        return try sampler.pictures(prompts, seeds: seeds, batch: batch, check: sampling(steps: steps, check: check))
    }

    /// Writes samples/epoch-N.png: a sheet of fixed prompts and seeds, N epochs into training.
    public func saveSamples() throws { try saveSamples(check: nil) }

    func saveSamples(check: (() throws -> Void)?) throws {
        let (prompts, seeds) = fixedSamples(Self.sheetSize, of: prompts)
        try sample(prompts, seeds: seeds, check: check).writeSheet(columns: 4, to: output.sampleSheet(epoch: progress.epoch))
    }
}
