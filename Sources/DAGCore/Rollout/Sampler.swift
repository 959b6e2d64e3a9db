import Images
import Models
import Rewards
import Support
import Tensors

/// Draws samples from a diffusion model by DDIM with noise (eta), under classifier-free guidance.
package struct Sampler {
    let model: any DiffusionModel
    let kernel: any TransitionKernel
    let guidance: Double

    /// Makes a sampler of a model whose noise schedule gave the kernel.
    /// - Parameter guidance: the scale w of classifier-free guidance.
    package init(model: any DiffusionModel, kernel: any TransitionKernel, guidance: Double) {
        self.model = model
        self.kernel = kernel
        self.guidance = guidance
    }

    /// One step: its number, the state before it, the network's outputs there, and the state after it.
    private struct Visit {
        let index: Int
        let x, guided, conditional, next, logForward: Tensor
        /// The step's number for each sample, int64 [n].
        let steps: Tensor
    }

    /// Walks from noise to data. Each sample has its own generator, as with diffusers' list of generators.
    private func walk(_ conditioning: Conditioning?, seeds: [UInt64], visit: (Visit) throws -> Void) throws -> Tensor {
        let generators = seeds.map(Generator.init(seed:))
        func noise() -> Tensor {
            Tensor.cat(generators.map { Tensor.randn([1] + model.sampleShape, generator: $0) }, 0).to(model.device)
        }
        var x = noise()
        for index in 0..<kernel.stepCount {
            let steps = Tensor.full([seeds.count], Double(index), dtype: .int64, device: model.device)
            let times = kernel.times(Array(repeating: index, count: seeds.count))
            let (guided, conditional) = model.denoise(x, times: times, conditioning, guidance: guidance)
            let fresh = noise()
            // The copy of the noise has waited for the device, so this look costs next to nothing.
            guard try guided.isFinite() else { throw try outputError(index, x, times, conditioning) }
            let (next, logForward) = kernel.sample(guided, x: x, noise: fresh, steps: steps)
            try visit(
                Visit(index: index, x: x, guided: guided, conditional: conditional, next: next, logForward: logForward, steps: steps))
            x = next
        }
        try TensorError.check()
        return x
    }

    /// Makes the error of an output that is not finite, by a look at the pretrained model's at the same
    /// state.
    private func outputError(_ index: Int, _ x: Tensor, _ times: Tensor, _ conditioning: Conditioning?) throws -> NotFiniteError {
        let output: Message = "the network's output is not finite at step \(index + 1) of \(kernel.stepCount)"
        let pretrained = model.withoutAdapters { model.denoise(x, times: times, conditioning, guidance: guidance).guided }
        guard try pretrained.isFinite() else {
            return NotFiniteError(
                """
                \(output), with or without a LoRA: lower \(setting: "guidance_scale") or \(setting: "eta"), \
                or download the model again
                """)
        }
        return NotFiniteError("\(output), but is without the LoRA, which has diverged: train with a lower \(setting: "learning_rate")")
    }

    /// Returns the pretrained model's guided output at a step, [n, C, H, W].
    private func pretrainedOutput(_ step: Visit, _ conditioning: Conditioning?) -> Tensor {
        let times = kernel.times(Array(repeating: step.index, count: step.x.size(0)))
        return model.withoutAdapters { model.denoise(step.x, times: times, conditioning, guidance: guidance).guided }
    }

    /// Returns log P_F of a step under the pretrained model, [n].
    private func logReference(_ step: Visit, _ conditioning: Conditioning?) -> Tensor {
        kernel.logForward(pretrainedOutput(step, conditioning), x: step.x, next: step.next, steps: step.steps)
    }

    /// Draws images of prompts; image k is a function of prompt k and seed k alone, in batches of any size.
    /// - Parameters:
    ///   - batch: images computed at once.
    ///   - onStep: called after every step of every batch; throws to stop.
    /// - Throws: `NotFiniteError`, `TensorError`, or an error of `onStep`.
    package func images(_ prompts: [Prompt], seeds: [UInt64], batch: Int = 64, onStep: () throws -> Void = {}) throws -> ImageBatch {
        let parts = try withoutGradients {
            try stride(from: 0, to: prompts.count, by: batch).map { start in
                let range = start..<min(start + batch, prompts.count)
                let conditioning = try model.encode(prompts[range].map(\.text))
                return try model.decode(walk(conditioning, seeds: Array(seeds[range])) { _ in try onStep() })
            }
        }
        return try ImageBatch(concatenating: parts)
    }

    /// Draws one batch of images, and measures how far their trajectories are from the pretrained model's.
    /// - Parameter onStep: called after every step; throws to stop.
    /// - Returns: the images of `images(_:seeds:)`, and for each the sum over its trajectory's steps of
    ///   KL(P_theta || P_base), nats. Its mean is KL(P_theta || P_base) of whole trajectories.
    /// - Throws: `NotFiniteError`, `TensorError`, or an error of `onStep`.
    func imagesAndDivergences(
        _ prompts: [Prompt], seeds: [UInt64], onStep: () throws -> Void
    ) throws -> (images: ImageBatch, divergences: [Double]) {
        try withoutGradients {
            let conditioning = try model.encode(prompts.map(\.text))
            var total = Tensor.zeros([prompts.count], device: model.device)
            let last = try walk(conditioning, seeds: seeds) { step in
                try onStep()
                guard step.index < kernel.transitions else { return }
                total =
                    total
                    + kernel.divergence(step.guided, from: pretrainedOutput(step, conditioning), x: step.x, steps: step.steps)
            }
            return (try model.decode(last), try total.array())
        }
    }

    /// Rolls out one batch of trajectories and submits their images for scoring.
    /// - Parameters:
    ///   - ids: the samples' numbers, which rewards are given.
    ///   - lookahead: the states whose predicted data is scored, for the forward-looking flow.
    ///   - reference: whether to take the pretrained model's density of every step too.
    ///   - isPretrained: whether the adapters do nothing yet, so that this density is the policy's.
    ///   - onStep: called after every step; throws to stop.
    /// - Throws: `NotFiniteError`, `TensorError`, `RewardError`, or an error of `onStep`.
    func rollOut(
        _ prompts: [Prompt], seeds: [UInt64], ids: [UInt64], evaluator: RewardEvaluator, lookahead: [Int], reference: Bool = false,
        isPretrained: Bool = false, onStep: () throws -> Void = {}
    ) throws -> UnscoredRollout {
        try withoutGradients {
            let conditioning = try model.encode(prompts.map(\.text))
            var rollout = Rollout(prompts: prompts, held: Array(prompts.indices))
            var pending: [PendingReward] = []
            func score(_ images: ImageBatch, heldOut: Bool) throws -> PendingReward {
                try evaluator.submit(RewardBatch(images: images, prompts: prompts, sampleIDs: ids, seeds: seeds), heldOut: heldOut)
            }
            let last = try walk(conditioning, seeds: seeds) { step in
                try onStep()
                guard step.index < kernel.transitions else { return }
                rollout.states.append(step.x)
                rollout.guided.append(step.guided)
                rollout.logForward.append(step.logForward)
                if reference { rollout.logReference.append(isPretrained ? step.logForward : logReference(step, conditioning)) }
                if lookahead.contains(step.index) {
                    pending.append(
                        try score(
                            model.decodePrediction(kernel.predictedData(step.conditional, x: step.x, steps: step.steps)), heldOut: false))
                }
                if step.index == kernel.transitions - 1 { rollout.states.append(step.next) }
            }
            let images = try model.decode(last)
            rollout.images = images
            return UnscoredRollout(rollout: rollout, samples: last, lookahead: pending, final: try score(images, heldOut: true))
        }
    }
}

/// A batch of trajectories whose images may still be in scoring.
struct UnscoredRollout {
    /// The trajectories, without scores.
    let rollout: Rollout
    /// The data at the trajectories' ends, of which the images were decoded, [n, C, H, W].
    let samples: Tensor
    let lookahead: [PendingReward]
    let final: PendingReward

    /// Waits for the scores.
    /// - Throws: an error of a reward, or `Cancelled`.
    func scored() throws -> Rollout {
        let lookahead = try lookahead.map { try $0.wait() }
        var scored = rollout
        scored.scores = RolloutScores(final: try final.wait(), lookahead: lookahead)
        return scored
    }
}
