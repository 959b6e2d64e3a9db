import Images
import Models
import Rewards
import Tensors

/// Trajectories of the current policy, from noise to data: all that an epoch of training needs.
public struct Rollout {
    /// One prompt for each of the N trajectories; empty strings for a model without text.
    public var prompts: [String]
    /// The T + 1 states x_T ... x_0, float32 [N, C, H, W] each.
    public var states: [Tensor]
    /// log P_F of the T transitions at rollout, float32 [N] each.
    public var logForward: [Tensor]
    /// The guided network output at the first T states, float32 [N, C, H, W] each.
    public var guided: [Tensor]
    /// log P_F of the T transitions under the pretrained model, float32 [N] each; empty unless the target is anchored to it.
    public var logReference: [Tensor]
    /// Trained reward of the final pictures [N]; NaN for a trajectory that is dropped because some picture of it could not be scored.
    public var rewards: [Float]
    /// Trained reward of the predicted data at the first T states, [T][N]; empty unless it is taken during the rollout.
    public var lookahead: [[Float]]
    /// Every objective of every reward plugin on the final pictures, [N] each; NaN where there is none.
    public var objectives: [ObjectiveScores]
    /// Scores that were assumed because a reward could not give them.
    public var imputed: Int
    /// The first picture that a reward could not score, and why.
    public var firstFailure: String?
    /// The final pictures; nil for a rollout that was read from a checkpoint.
    public var images: ImageBatch?

    /// Number of trajectories.
    public var count: Int { prompts.count }
    /// Number of those that are dropped.
    public var dropped: Int { rewards.count { $0.isNaN } }
}

/// Draws samples from a diffusion model by DDIM with noise (eta), under classifier-free guidance.
public struct Sampler {
    let pipeline: DiffusionPipeline
    let kernels: TransitionKernels
    let guidance: Double

    /// - Parameter guidance: the scale w of classifier-free guidance.
    public init(pipeline: DiffusionPipeline, kernels: TransitionKernels, guidance: Double) {
        self.pipeline = pipeline
        self.kernels = kernels
        self.guidance = guidance
    }

    /// What is known after one step: number, state before, its network outputs, and what follows.
    private struct Visit {
        let index: Int
        let x, guided, conditional, next, logForward: Tensor
        let indices: Tensor
    }

    /// Walks from noise to data. Sample k draws all its noise from its own generator, as diffusers does with a list of generators.
    private func walk(_ conditioning: Conditioning?, seeds: [UInt64], visit: (Visit) throws -> Void) throws -> Tensor {
        let generators = seeds.map(Generator.init(seed:))
        func noise() -> Tensor {
            Tensor.cat(generators.map { Tensor.randn([1] + pipeline.sampleShape, generator: $0) }, 0).to(pipeline.device)
        }
        var x = noise()
        for index in kernels.steps.indices {
            let indices = Tensor.full([seeds.count], Double(index), dtype: .int64, device: pipeline.device)
            let times = kernels.times(Array(repeating: index, count: seeds.count), device: pipeline.device)
            let (guided, conditional) = pipeline.denoise(x, times: times, conditioning, guidance: guidance)
            let (next, logForward) = kernels.sample(guided, x: x, noise: noise(), steps: indices)
            try visit(
                Visit(index: index, x: x, guided: guided, conditional: conditional, next: next, logForward: logForward, indices: indices))
            x = next
        }
        try TensorError.check()
        return x
    }

    /// log P_F of a step under the pretrained model, [n].
    private func logReference(_ step: Visit, _ conditioning: Conditioning?) -> Tensor {
        let times = kernels.times(Array(repeating: step.index, count: step.x.size(0)), device: pipeline.device)
        let guided = pipeline.withoutAdapters { pipeline.denoise(step.x, times: times, conditioning, guidance: guidance).guided }
        return kernels.logForward(guided, x: step.x, next: step.next, steps: step.indices)
    }

    /// Pictures of prompts; picture k is a function of prompt k and seed k alone, whatever the batch.
    public func pictures(_ prompts: [String], seeds: [UInt64], batch: Int = 64, check: () throws -> Void = {}) throws -> ImageBatch {
        let parts = try withoutGradients {
            try stride(from: 0, to: prompts.count, by: batch).map { start in
                let range = start..<min(start + batch, prompts.count)
                let conditioning = try pipeline.encode(Array(prompts[range]))
                return try pipeline.decode(walk(conditioning, seeds: Array(seeds[range])) { _ in try check() })
            }
        }
        return try ImageBatch(concatenating: parts)
    }

    /// Rolls out one batch, which is scored while that goes on.
    /// - Parameters:
    ///   - ids: what the rewards know the samples by.
    ///   - lookahead: whether to score the predicted data of every state, for the forward-looking flow.
    ///   - reference: whether to take the pretrained model's density of every step, one more evaluation of the network each.
    ///   - check: called after every step; throws to stop.
    func rollOut(
        _ prompts: [String], seeds: [UInt64], ids: [UInt64], evaluator: RewardEvaluator, lookahead: Bool, reference: Bool = false,
        check: () throws -> Void = {}
    ) throws -> UnscoredRollout {
        try withoutGradients {
            let conditioning = try pipeline.encode(prompts)
            var (states, logForward, guided, logReference): ([Tensor], [Tensor], [Tensor], [Tensor]) = ([], [], [], [])
            var pending: [PendingReward] = []
            func score(_ images: ImageBatch, heldOut: Bool) throws -> PendingReward {
                try evaluator.submit(RewardBatch(images: images, prompts: prompts, sampleIDs: ids, seeds: seeds), heldOut: heldOut)
            }
            let last = try walk(conditioning, seeds: seeds) { step in
                try check()
                guard step.index < kernels.transitions else { return }
                states.append(step.x)
                guided.append(step.guided)
                logForward.append(step.logForward)
                if reference { logReference.append(self.logReference(step, conditioning)) }
                if lookahead {
                    pending.append(
                        try score(
                            pipeline.decode(kernels.predictedData(step.conditional, x: step.x, steps: step.indices)), heldOut: false))
                }
                if step.index == kernels.transitions - 1 { states.append(step.next) }
            }
            let images = try pipeline.decode(last)
            return UnscoredRollout(
                prompts: prompts, states: states, logForward: logForward, guided: guided, logReference: logReference, images: images,
                lookahead: pending, final: try score(images, heldOut: true))
        }
    }
}

/// A batch of trajectories whose pictures may still be being scored.
struct UnscoredRollout {
    let prompts: [String]
    let states, logForward, guided, logReference: [Tensor]
    let images: ImageBatch
    let lookahead: [PendingReward]
    let final: PendingReward

    /// Waits for the scores.
    /// - Throws: what a reward threw; `Cancelled`.
    func scored() throws -> Rollout {
        let early = try lookahead.map { try $0.wait() }
        let final = try final.wait()
        let all = [final] + early
        return Rollout(
            prompts: prompts, states: states, logForward: logForward, guided: guided, logReference: logReference,
            rewards: final.reward.indices.map { k in early.contains { $0.reward[k].isNaN } ? .nan : final.reward[k] },
            lookahead: early.map(\.reward), objectives: final.objectives,
            imputed: all.reduce(0) { $0 + $1.imputed }, firstFailure: all.lazy.compactMap(\.firstFailure).first, images: images)
    }
}

extension Rollout {
    /// The same with all tensors on a device.
    func moved(to device: Device) -> Rollout {
        var moved = self
        moved.states = states.map { $0.to(device) }
        moved.logForward = logForward.map { $0.to(device) }
        moved.guided = guided.map { $0.to(device) }
        moved.logReference = logReference.map { $0.to(device) }
        return moved
    }

    /// Several batches as one.
    init(concatenating parts: [Rollout]) {
        func columns(_ get: (Rollout) -> [Tensor]) -> [Tensor] {
            (0..<get(parts[0]).count).map { k in Tensor.cat(parts.map { get($0)[k] }, 0) }
        }
        prompts = parts.flatMap(\.prompts)
        states = columns(\.states)
        logForward = columns(\.logForward)
        guided = columns(\.guided)
        logReference = columns(\.logReference)
        rewards = parts.flatMap(\.rewards)
        lookahead = parts[0].lookahead.indices.map { k in parts.flatMap { $0.lookahead[k] } }
        objectives = parts[0].objectives.enumerated().map { k, objective in
            ObjectiveScores(objective.name, parts.flatMap { $0.objectives[k].scores })
        }
        imputed = parts.reduce(0) { $0 + $1.imputed }
        firstFailure = parts.lazy.compactMap(\.firstFailure).first
        images = try? ImageBatch(concatenating: parts.compactMap(\.images))
    }
}
