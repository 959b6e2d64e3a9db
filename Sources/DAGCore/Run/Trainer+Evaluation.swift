import Foundation
import Images
import Rewards
import Support
import Tensors

extension Trainer {
    /// Scores images of fixed prompts and seeds with the current adapter, for a line of metrics.jsonl.
    /// - Throws: `ConfigurationError` if the settings ask for no evaluation, an error of a reward,
    ///   `OutputError`, `TensorError`, `Cancelled`.
    package func evaluate() throws -> Evaluation { try team.together("evaluate") { try learner.withAverage(evaluated) } }

    private func evaluated() throws -> Evaluation {
        guard configuration.evaluationSamples > 0 else {
            throw ConfigurationError("\(setting: "evaluation_samples") is 0: set it to evaluate")
        }
        let (prompts, seeds) = evaluationPrompts.fixedSamples(configuration.evaluationSamples, seeds)
        let batch = configuration.sampleBatchSize
        let reports = try team.map("evaluation", Array(prompts.indices).chunks(of: batch)) { places in
            monitor.report(.evaluating, places[0], of: prompts.count)
            let chosen = places.map { prompts[$0] }
            let noise = places.map { seeds[$0] }
            let images = try collector.evaluationSampler.images(chosen, seeds: noise, batch: batch, onStep: monitor.reportWaiting)
            return try collector.evaluator.score(
                RewardBatch(images: images, prompts: chosen, sampleIDs: places.map(UInt64.init), seeds: noise))
        }
        let report = RewardReport(concatenating: reports)
        let evaluation = Evaluation(report, of: collector.evaluator, epoch: state.epoch)
        if let failure = report.firstFailure {
            let what = shortfall(
                dropped: evaluation.count - evaluation.scored, of: "\(evaluation.count) images", imputed: report.imputed)
            monitor.warn("evaluation: \(what): \(failure)")
        }
        try recorder.append(evaluation, epoch: state.epoch, step: state.step)
        try recorder.writePage()
        return evaluation
    }

    /// Draws images with the current adapter and the run's steps, eta and guidance.
    /// Image k is a function of prompt k and seed k alone.
    /// - Parameters:
    ///   - prompts: one for each image; of empty text for a model without text.
    ///   - seeds: one for each image.
    /// - Throws: `ConfigurationError` if their numbers differ, `TensorError`, `Cancelled`.
    package func sample(_ prompts: [Prompt], seeds: [UInt64]) throws -> ImageBatch {
        try collector.images(prompts, seeds: seeds, by: collector.sampler)
    }

    /// Writes samples/epoch-N.png: a sheet of fixed prompts and seeds, N epochs into training.
    /// - Throws: `OutputError`, `TensorError`, `Cancelled`.
    package func saveSamples() throws {
        try team.together("save samples") {
            try recorder.saveSamples(state)
            try recorder.writePage()
        }
    }

    /// A line that describes the run.
    package var summary: String {
        let prompts = "\(collector.prompts.name) (\(collector.prompts.prompts.count) prompts)"
        let epoch = "\(configuration.trajectoriesPerEpoch) trajectories x \(learner.kernel.transitions) transitions an epoch"
        let processes = team.count > 1 ? ", \(team.count) processes" : ""
        let place = "\(Precision(model.dtype)) on \(model.device), libtorch \(Torch.version)\(processes)"
        let subject = "\(configuration.algorithm.rawValue) on \(configuration.model)"
        return "\(subject): \(prompts), \(epoch), \(configuration.updatesPerEpoch) optimiser steps, \(place)"
    }
}
