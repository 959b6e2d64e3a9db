import Foundation
import Images
import Rewards
import Support
import Tensors

/// A self-check before training failed.
package struct SelfCheckError: MessageError {
    /// One line: the culprit and the remedy.
    package let message: Message

    init(_ message: Message) { self.message = message }
}

extension Trainer {
    /// Largest |rho - 1| on a fresh rollout: batches of other sizes round differently in bfloat16.
    private var ratioTolerance: Double { model.dtype == .float32 ? 1e-3 : 0.1 }

    /// Tries everything that a run depends on, before its first epoch, on a few trajectories.
    /// - Returns: a line for each check.
    /// - Throws: `SelfCheckError`, `RewardError`, `TensorError`, `Cancelled`.
    package func selfCheck() throws -> [String] {
        checkPromptLengths()
        if configuration.algorithm == .dagNabla, !configuration.measuresGradientScale {
            monitor.warn(
                "eta \(configuration.eta): the flow's gradient is followed as it is, to less than the target asks for, since what it has "
                    + "found can be measured with eta 1 only: use eta 1")
        }
        var report = [try checkTextEncoder()].compactMap { $0 }
        let sampler = collector.sampler
        let prompts = collector.prompts.prompts
        let count = max(4, configuration.trainBatchSize)
        let chosen = (0..<count).map { prompts[$0 % prompts.count] }
        let noise = seeds.batch(.selfCheck, count: count)
        let onStep = monitor.samplingSteps(2 * sampler.kernel.stepCount)
        let unscored = try sampler.rollOut(
            chosen, seeds: noise, ids: (0..<count).map(UInt64.init), evaluator: collector.evaluator, lookahead: [], onStep: onStep)
        let rollout = try unscored.scored()
        let epoch = ScoredEpoch(index: 0, rollout: rollout, conditioning: try model.encode(rollout.prompts.map(\.text)))
        report.append(try checkRatio(epoch))
        if configuration.reweighsTransitions { report.append(try checkRatioRounding(epoch)) }
        let images = try sampler.images(Array(chosen.prefix(4)), seeds: Array(noise.prefix(4)), onStep: onStep)
        for gap in try collector.evaluator.selfCheck(images: images, prompts: Array(chosen.prefix(4))) { monitor.warn(gap) }
        report.append("rewards answer sanely: \(collector.evaluator.objectiveNames.joined(separator: ", "))")
        if !configuration.predictionDecoder.isEmpty {
            report.append(try comparePredictionDecoder(unscored.samples, rollout, seeds: noise))
        }
        return report
    }

    /// Checks that the learner computes the same log-probabilities as the rollout: rho = 1.
    private func checkRatio(_ epoch: ScoredEpoch) throws -> String {
        let kernel = learner.kernel
        let steps = Set([0, kernel.transitions / 2, kernel.transitions - 1])
        let deviations = try withoutGradients {
            try steps.sorted().map { step in
                let batch = TransitionBatch(epoch, Array(0..<epoch.rollout.count), [step], model, kernel)
                let logForward = batch.logForward(batch.denoise(guidance: configuration.guidanceScale).guided)
                return try (logForward - batch.logForwardAtRollout).exp().array(Float.self).reduce(Float(0)) {
                    $1.isNaN ? .infinity : max($0, abs($1 - 1))
                }
            }
        }
        let largest = Double(deviations.max() ?? 0)
        guard largest <= ratioTolerance else {
            throw SelfCheckError(
                """
                self-check: the importance ratio on a fresh rollout is off by \(largest), more than \(ratioTolerance): \
                try \(setting: "precision") fp32, or \(setting: "log_prob") mean
                """)
        }
        return String(format: "importance ratio on a fresh rollout: 1 within %.1e", largest)
    }

    /// Checks that the clip range bounds the motion of the policy, not the rounding of the network.
    ///
    /// A move of the adapters far below an optimiser step and its opposite change log rho by a and -a, to
    /// first order: the sum of the two is rounding. With the rounding r_+, r_-, r_0 of each evaluation it is
    /// r_+ + r_- - 2 r_0, whose deviation is sqrt(3) times that of r_+ - r_0, which is in the ratio.
    private func checkRatioRounding(_ epoch: ScoredEpoch) throws -> String {
        let kernel = learner.kernel
        let generator = Generator(seed: seeds(.selfCheck))
        let moves = learner.lora.parameters.map { _, tensor in
            let move = Tensor.randn(tensor.shape, generator: generator) * 3e-5
            return (tensor: tensor, before: tensor.detach().clone(), by: move.to(model.device))
        }
        defer { withoutGradients { for move in moves { move.tensor.copy_(move.before) } } }
        var rounding: [Double] = []
        try withoutGradients {
            for step in 0..<kernel.transitions {
                try monitor.throwIfCancelled()
                let batch = TransitionBatch(epoch, [step % epoch.rollout.count], [step], model, kernel)
                func logForward(_ sign: Double) -> Tensor {
                    for (tensor, before, move) in moves { tensor.copy_(before + move * sign) }
                    return batch.logForward(batch.denoise(guidance: configuration.guidanceScale).guided)
                }
                let sum = try (logForward(1) + logForward(-1) - batch.logForwardAtRollout * 2).array(Float.self)
                rounding += sum.map { abs(Double($0)) / 3.squareRoot() }
            }
        }
        let typical = (rounding.reduce(0) { $0 + $1 * $1 } / Double(rounding.count)).squareRoot()
        let found = String(format: "rounding in \(Precision(model.dtype)) moves log rho by %.1e", typical)
        let beyond = rounding.count { !($0 <= configuration.clipRange) }  // NaN as well
        guard beyond * 50 <= rounding.count else {
            let enough = String(format: "%.0e", 2 * (rounding.max() ?? 0))
            throw SelfCheckError(
                """
                self-check: \(found): of \(rounding.count) transitions \(beyond) are beyond \(setting: "clip_range") \
                \(configuration.clipRange) before anything is learned. Use \(setting: "precision") fp32, a \
                \(setting: "clip_range") of \(enough), or one optimiser step an epoch, where rho is 1
                """)
        }
        return "\(found), the clip range is \(configuration.clipRange)"
    }

    /// Compares the decoder of predictions with the model's own, in pixels and in scores, and warns if it may
    /// be for other latents.
    /// - Parameters:
    ///   - samples: the data of the rollout's images, [n, C, H, W].
    ///   - seeds: of its trajectories, whose ids count from 0.
    private func comparePredictionDecoder(_ samples: Tensor, _ rollout: Rollout, seeds: [UInt64]) throws -> String {
        let images = try model.decodePrediction(samples)
        let batch = try RewardBatch(
            images: images, prompts: rollout.prompts, sampleIDs: seeds.indices.map(UInt64.init), seeds: seeds)
        let scores = zip(rollout.scores.final, try collector.evaluator.score(batch, heldOut: false).reward)
        let apart = Moments(scores.map { abs($0 - $1) }).mean
        let deviation = Moments(rollout.scores.final).deviation
        if apart > deviation / 2, deviation > 0 {
            monitor.warn(
                "\(configuration.predictionDecoder): scores of its images differ from those of the model's own by more than half of "
                    + "their deviation from image to image: is it a decoder for this model's latents?")
        }
        return String(
            format: "decoder of predictions against the model's own, %d images: pixels differ by %.1f of 255, scores by %.3g; "
                + "from image to image scores deviate by %.3g",
            images.count, rollout.images?.difference(from: images) ?? .nan, apart, deviation)
    }

    /// Warns of prompts that are longer than the text encoder.
    private func checkPromptLengths() {
        guard let tokenizer = model.tokenizer else { return }
        for set in configuration.evaluationPrompts.isEmpty ? [collector.prompts] : [collector.prompts, evaluationPrompts] {
            if let line = tokenizer.cutLine(set.prompts.map(\.text)) { monitor.warn("\(set.name): \(line)".oneLine) }
        }
    }

    /// Checks that two prompts of different tokens give two embeddings.
    private func checkTextEncoder() throws -> String? {
        let texts = collector.prompts.prompts.map(\.text)
        guard let tokenizer = model.tokenizer, let first = texts.first else { return nil }
        let ids = tokenizer.encode(first)
        guard let second = texts.first(where: { tokenizer.encode($0) != ids }), let conditioning = try model.encode([first, second])
        else { return nil }
        let difference = try (conditioning.prompts.select(0, 0) - conditioning.prompts.select(0, 1)).to(.float32).abs().mean().item()
        guard difference > 1e-6 else {
            throw SelfCheckError(
                """
                self-check: the text encoder gives '\(first)' and '\(second)' the same embedding, though their tokens differ: \
                its weights or tokenizer are not this model's
                """)
        }
        return String(format: "text encoder separates prompts: mean difference %.2g", difference)
    }
}
