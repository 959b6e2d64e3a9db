import Tensors

/// Learning from finished images: see `Replay`.
extension Learner {
    /// Keeps an epoch's images for replay, on every rank.
    /// - Throws: `TensorError`, or an error of `Team.exchange`.
    func keep(_ rollout: Rollout) throws {
        guard case .replay(let replay) = method else { return }
        let logRatios = zip(rollout.logForward, rollout.logReference).map { $0 - $1 }
        let own = [rollout.states[kernel.transitions], Tensor.stack(logRatios, 0).sum([0])]
        let (parts, order) = try team.exchange("replay", own, of: rollout.held)
        func joined(_ k: Int) -> Tensor { Tensor.cat(parts.map { $0[k] }, 0).rows(order) }
        try replay.keep(joined(0), scores: rollout.scores.final, logRatios: joined(1).array(), prompts: rollout.prompts)
    }

    /// Makes one step of the optimiser on noised images, of which each rank has some groups: of the flow's
    /// until it has had its steps of the epoch, then of the policy's.
    func step(_ replay: Replay, epoch: Int, update: Int, step: Int) throws -> StepSums {
        let (size, group) = (configuration.trajectoriesPerUpdate, configuration.trainBatchSize)
        let seeds = Seeds(Seeds(configuration.seed)(.replay, epoch: epoch, index: update))
        let flowUpdates = configuration.flowUpdatesPerEpoch
        let flowGradient = update < flowUpdates ? replay.gradient : nil
        let scale = flowGradient == nil ? try gradientScale(replay, epoch: epoch, step: step) : nil
        let draw = draw(replay, epoch: epoch, update: update)
        // Of the run's steps before this one, the flow had so many in every epoch that began, but for this one's.
        let ownStep = flowGradient == nil ? step - (epoch + 1) * flowUpdates : epoch * flowUpdates + update
        return try optimize(
            flowGradient == nil ? [.policy] : [.flow], groups: size / group, passes: replayBlocks.count, kept: size, step: step,
            ownStep: ownStep, updatesPerEpoch: flowGradient == nil ? configuration.replayUpdates : flowUpdates
        ) { place, passes in
            for block in replayBlocks {
                try passes.next()
                let images = try noisedImages(block.map { place * group + $0 }, of: draw, seeds, replay)
                let (loss, metrics) = try checkpointing {
                    try flowGradient.map { (flowLoss(images, $0), [:]) } ?? policyLoss(images, replay, scale: scale)
                }
                try (loss.sum() / Double(size)).backward()
                let numbers = metrics.merging(["effective_share": block.map { _ in Float(draw.effectiveShare) }]) { $1 }
                try passes.sums.add(loss.detach().array(), numbers)
            }
        }
    }

    /// Draws the images of a step: the flow's are without those that it is measured on.
    func draw(_ replay: Replay, epoch: Int, update: Int) -> Replay.Draw {
        replay.draw(
            configuration.trajectoriesPerUpdate, steps: kernel.transitions, beta: configuration.beta(epoch: epoch),
            without: update < configuration.flowUpdatesPerEpoch ? replay.heldOut : [],
            Seeds(Seeds(configuration.seed)(.replay, epoch: epoch, index: update)))
    }

    /// Measures c of the flow's gradient before the policy's first step of an epoch, on all ranks together.
    /// - Returns: c; nil for an algorithm without such a gradient.
    private func gradientScale(_ replay: Replay, epoch: Int, step: Int) throws -> Double? {
        guard let gradient = replay.gradient, replay.state.gradientScale == nil else { return replay.state.gradientScale }
        let scale = try measure(gradient, replay, epoch: epoch)
        if let warning = scale.warning { monitor.warn("step \(step): \(warning)") }
        replay.state.gradientScale = scale.value
        return scale.value
    }

    private func measure(_ gradient: FlowGradient, _ replay: Replay, epoch: Int) throws -> FlowGradient.Scale {
        let (images, steps) = (replay.heldOut, kernel.transitions)
        let seeds = Seeds(Seeds(configuration.seed)(.gradientScale, epoch: epoch))
        let rows = images.flatMap { image in (0..<steps).map { (image: image, step: $0) } }
        let places = images.count < FlowGradient.Scale.fewest ? [] : Array(rows.indices)
        let blocks = places.chunks(of: configuration.samplesPerPass(of: model))
        let products = try team.map("gradient scale", Array(blocks.enumerated())) { number, block -> [Float] in
            monitor.report(.training, number, of: blocks.count)
            try monitor.throwIfCancelled()
            let noised = try noisedImages(
                block.map { rows[$0].image }, steps: block.map { rows[$0].step }, seeds: block.map { seeds(.rollout, index: $0) }, replay)
            let change = try checkpointing { try noise(of: gradient, noised) }
            let base = withoutGradients { model.withoutAdapters { predictedNoise(noised) } }
            return try kernel.projection(of: change, on: noised.noise, from: base, steps: noised.steps).array()
        }
        let weights = replay.weights(beta: configuration.beta(epoch: epoch))
        return FlowGradient.Scale(
            projections: products.flatMap { $0 }.chunks(of: steps).map { $0.map(Double.init) }, target: images.map { weights.target[$0] },
            pretrained: images.map { weights.pretrained[$0] }, steps: steps)
    }

    /// The places of a group that are computed at once.
    var replayBlocks: [[Int]] {
        Array(0..<configuration.trainBatchSize).chunks(of: configuration.samplesPerPass(of: model))
    }

    /// Images noised by P_B, n of them.
    struct NoisedImages {
        /// States, float32 [n, C, H, W].
        let x: Tensor
        /// epsilon*, [n, C, H, W].
        let noise: Tensor
        /// Steps of the chain, int64 [n], and the network's time inputs of them.
        let steps, times: Tensor
        /// The text of their prompts; nil without text.
        let conditioning: Conditioning?
        /// w and u, float32 [n].
        var target, pretrained: Tensor
        /// The largest w / u of the prompt's images, float32 [n].
        var bound: Tensor
    }

    /// Noises images of a draw.
    /// - Parameter places: in the draw.
    func noisedImages(_ places: [Int], of draw: Replay.Draw, _ seeds: Seeds, _ replay: Replay) throws -> NoisedImages {
        var images = try noisedImages(
            places.map { draw.images[$0] }, steps: places.map { draw.steps[$0] }, seeds: places.map { seeds(.rollout, index: $0) }, replay)
        images.target = Tensor(places.map { draw.target[$0] }, device: model.device)
        images.pretrained = Tensor(places.map { draw.pretrained[$0] }, device: model.device)
        images.bound = Tensor(places.map { draw.bound[$0] }, device: model.device)
        return images
    }

    /// Noises images of the buffer, each to a step and by its own seed; w, u and the bound are 1.
    private func noisedImages(_ places: [Int], steps: [Int], seeds: [UInt64], _ replay: Replay) throws -> NoisedImages {
        let (ends, text) = try replay.images(places, of: model)
        let fresh = seeds.map { Tensor.randn([1] + model.sampleShape, generator: Generator(seed: $0)) }
        let stepNumbers = Tensor(steps.map(Int64.init), device: model.device)
        let (x, noise) = kernel.replay(ends, noise: Tensor.cat(fresh, 0).to(model.device), steps: stepNumbers)
        let ones = Tensor.full([places.count], 1, device: model.device)
        return NoisedImages(
            x: x, noise: noise, steps: stepNumbers, times: kernel.times(steps), conditioning: text, target: ones, pretrained: ones,
            bound: ones)
    }

    /// Computes the flow's losses of noised images, float32 [n], differentiable.
    func flowLoss(_ images: NoisedImages, _ gradient: FlowGradient) -> Tensor {
        let logit = gradient.flow(images.x, times: images.times, context: images.conditioning?.prompts)
        return FlowGradient.loss(logit, target: images.target, pretrained: images.pretrained, bound: images.bound)
    }

    /// Predicts the noise in noised images with the current weights, [n, C, H, W].
    private func predictedNoise(_ images: NoisedImages) -> Tensor {
        let output = model.denoise(
            images.x, times: images.times, images.conditioning, guidance: configuration.guidanceScale
        ).guided
        return kernel.predictedNoise(output, x: images.x, steps: images.steps)
    }

    /// Computes the change of the noise prediction that the flow's gradient asks for, [n, C, H, W].
    private func noise(of gradient: FlowGradient, _ images: NoisedImages) throws -> Tensor {
        kernel.noise(ofGradient: try gradient(images.x, times: images.times, context: images.conditioning?.prompts), steps: images.steps)
    }

    /// Computes the policy's losses of noised images, float32 [n], differentiable, and numbers for the metrics.
    /// - Parameter scale: c of the flow's gradient; nil: 1.
    func policyLoss(_ images: NoisedImages, _ replay: Replay, scale: Double? = nil) throws -> (loss: Tensor, metrics: [String: [Float]]) {
        // Before the policy's graph, so that there is one graph at a time.
        let change = try replay.gradient.map { try noise(of: $0, images) * (scale ?? 1) }
        let base = withoutGradients { model.withoutAdapters { predictedNoise(images) } }
        let policy = predictedNoise(images)
        guard let change else {
            let loss = Replay.loss(policy, base: base, noise: images.noise, target: images.target, pretrained: images.pretrained)
            return (loss, [:])
        }
        let dimensions = Array(1..<policy.rank)
        var metrics = ["flow_gradient": try change.square().mean(dimensions).array(Float.self)]
        metrics["flow_gradient_scale"] = scale.map { [Float](repeating: Float($0), count: policy.size(0)) }
        return ((policy - base - change).square().mean(dimensions), metrics)
    }
}
