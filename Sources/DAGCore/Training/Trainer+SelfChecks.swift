import Foundation
import Images
import Rewards
import Tensors

/// A check before training that failed, in one line that says what is wrong and what to do.
public struct SelfCheckError: MessageError {
    /// One line: the culprit and the remedy.
    public let message: Message

    init(_ message: Message) { self.message = message }
}

extension Trainer {
    /// Largest |rho - 1| on a fresh rollout. Rows are the same computation in batches of other sizes: in bfloat16 that rounds differently.
    private var ratioTolerance: Double { pipeline.unet.dtype == .float32 ? 1e-3 : 0.1 }

    /// Tries everything that a run depends on, before its first epoch, on a few trajectories.
    /// - Returns: a line for each check.
    public func selfCheck() throws -> [String] {
        var report = [try checkTextEncoder()].compactMap { $0 }
        let count = max(4, configuration.trainBatchSize)
        let chosen = (0..<count).map { prompts.prompts[$0 % prompts.prompts.count] }
        let seeds = seeds.batch(.selfCheck, count: count)
        let step = sampling(steps: 2 * kernels.steps.count)
        let rollout = try sampler.rollOut(
            chosen, seeds: seeds, ids: (0..<count).map(UInt64.init), evaluator: evaluator, lookahead: false, check: step
        ).scored(check: checkWhileWaiting)
        report.append(try checkRatio(rollout))
        let pictures = try sampler.pictures(Array(chosen.prefix(4)), seeds: Array(seeds.prefix(4)), check: step)
        for gap in try evaluator.selfCheck(images: pictures, prompts: Array(chosen.prefix(4)), check: checkWhileWaiting) { onWarning(gap) }
        report.append("rewards answer sanely: \(evaluator.objectiveNames.joined(separator: ", "))")
        return report
    }

    /// The policy that is trained gives the rollout's own log-probabilities: rho = 1.
    private func checkRatio(_ rollout: Rollout) throws -> String {
        let conditioning = try pipeline.encode(rollout.prompts)
        let steps = Set([0, kernels.transitions / 2, kernels.transitions - 1])
        let deviations = try withoutGradients {
            try steps.sorted().map { step in
                let everything = Array(0..<rollout.count)
                let indices = Tensor.full([rollout.count], Double(step), dtype: .int64, device: pipeline.device)
                let times = kernels.times(Array(repeating: step, count: rollout.count), device: pipeline.device)
                let x = rollout.states[step].rows(everything)
                let guided = pipeline.denoise(x, times: times, conditioning, guidance: configuration.guidanceScale).guided
                let log = kernels.logForward(guided, x: x, next: rollout.states[step + 1], steps: indices)
                return try (log - rollout.logForward[step]).exp().array(Float.self).reduce(Float(0)) {
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

    /// Two prompts give two embeddings.
    private func checkTextEncoder() throws -> String? {
        guard let first = prompts.prompts.first, let second = prompts.prompts.first(where: { $0 != first }),
            let conditioning = try pipeline.encode([first, second])
        else { return nil }
        let difference = try (conditioning.prompts.select(0, 0) - conditioning.prompts.select(0, 1)).to(.float32).abs().mean().item()
        guard difference > 1e-6 else {
            throw SelfCheckError(
                """
                self-check: the text encoder gives '\(first)' and '\(second)' the same embedding: its weights or tokenizer are \
                not this model's, or the prompts differ only beyond the last token
                """)
        }
        return String(format: "text encoder separates prompts: mean difference %.2g", difference)
    }
}
