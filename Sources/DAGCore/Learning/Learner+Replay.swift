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
        let draw = replay.draw(
            size, steps: kernel.transitions, beta: configuration.beta(epoch: epoch),
            without: flowGradient == nil ? [] : replay.heldOut(newest: configuration.trajectoriesPerEpoch), seeds)
        // Of the run's steps before this one, the flow had so many in every epoch that began, but for this one's.
        let ownStep = flowGradient == nil ? step - (epoch + 1) * flowUpdates : epoch * flowUpdates + update
        return try optimize(
            flowGradient == nil ? [.policy] : [.flow], groups: size / group, passes: replayBlocks.count, kept: size, step: step,
            ownStep: ownStep, updatesPerEpoch: flowGradient == nil ? configuration.replayUpdates : flowUpdates
        ) { place, passes in
            for block in replayBlocks {
                try passes.next()
                let images = try noisedImages(block.map { place * group + $0 }, of: draw, replay, seeds)
                let (loss, metrics) = try flowGradient.map { (flowLoss(images, $0), [:]) } ?? policyLoss(images, replay, scale: scale)
                try (loss.sum() / Double(size)).backward()
                let ofStep = ["effective_share": draw.effectiveShare, "flow_gradient_scale": scale]
                let numbers = ofStep.compactMapValues { $0 }.mapValues { value in block.map { _ in Float(value) } }
                try passes.sums.add(loss.detach().array(), metrics.merging(numbers) { $1 })
            }
        }
    }

    /// Measures the scale of the flow's gradient before the policy's first step of an epoch, on all ranks
    /// together.
    /// - Returns: the scale; nil for an algorithm without such a gradient.
    private func gradientScale(_ replay: Replay, epoch: Int, step: Int) throws -> Double? {
        guard let gradient = replay.gradient, replay.state.gradientScale == nil else { return replay.state.gradientScale }
        let images = replay.heldOut(newest: configuration.trajectoriesPerEpoch)
        let rows = replay.everyStep(of: images, steps: kernel.transitions, beta: configuration.beta(epoch: epoch))
        // A stream of its own: that of no optimiser step.
        let seeds = Seeds(Seeds(configuration.seed)(.gradientScale, epoch: epoch))
        let blocks = Array(rows.images.indices).chunks(of: configuration.samplesPerPass(of: model))
        let products = try team.map("gradient scale", blocks) { block -> [Float] in
            try monitor.throwIfCancelled()
            let images = try noisedImages(block, of: rows, replay, seeds)
            let change = try noise(of: gradient, images)
            let base = withoutGradients { model.withoutAdapters { predictedNoise(images) } }
            return try kernel.projection(of: change, on: images.noise, from: base, steps: images.steps).array()
        }.flatMap { $0 }.chunks(of: kernel.transitions)
        let (target, pretrained) = (rows.target, rows.pretrained)
        let places = products.indices.map { $0 * kernel.transitions }
        let scale = FlowGradient.Scale(
            projections: zip(places, products).map { place, products in
                products.reduce(0) { $0 + Double($1) } * Double(target[place] - pretrained[place])
            }, target: places.map { Double(target[$0]) }, pretrained: places.map { Double(pretrained[$0]) })
        if let warning = scale.warning { monitor.warn("step \(step): \(warning)") }
        replay.state.gradientScale = scale.value
        return scale.value
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
        let target, pretrained: Tensor
    }

    /// Noises images of a draw.
    /// - Parameter places: in the draw.
    func noisedImages(_ places: [Int], of draw: Replay.Draw, _ replay: Replay, _ seeds: Seeds) throws -> NoisedImages {
        let steps = places.map { draw.steps[$0] }
        let (ends, text) = try replay.images(places.map { draw.images[$0] }, of: model)
        let fresh = places.map { Tensor.randn([1] + model.sampleShape, generator: Generator(seed: seeds(.rollout, index: $0))) }
        let stepNumbers = Tensor(steps.map(Int64.init), device: model.device)
        let (x, noise) = kernel.replay(ends, noise: Tensor.cat(fresh, 0).to(model.device), steps: stepNumbers)
        func numbers(_ list: [Float]) -> Tensor { Tensor(places.map { list[$0] }, device: model.device) }
        return NoisedImages(
            x: x, noise: noise, steps: stepNumbers, times: kernel.times(steps), conditioning: text, target: numbers(draw.target),
            pretrained: numbers(draw.pretrained))
    }

    /// Computes the flow's losses of noised images, float32 [n], differentiable.
    func flowLoss(_ images: NoisedImages, _ gradient: FlowGradient) -> Tensor {
        let logRatio = gradient.flow(images.x, times: images.times, context: images.conditioning?.prompts)
        return FlowGradient.loss(logRatio, target: images.target, pretrained: images.pretrained)
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
    /// - Parameter scale: of the flow's gradient; nil: 1.
    func policyLoss(_ images: NoisedImages, _ replay: Replay, scale: Double? = nil) throws -> (loss: Tensor, metrics: [String: [Float]]) {
        // Before the policy's graph, so that there is one graph at a time.
        let change = try replay.gradient.map { try noise(of: $0, images) * (scale ?? 1) }
        let base = withoutGradients { model.withoutAdapters { predictedNoise(images) } }
        let policy = GradientCheckpointing.$isEnabled.withValue(configuration.gradientCheckpointing) { predictedNoise(images) }
        guard let change else {
            let loss = Replay.loss(policy, base: base, noise: images.noise, target: images.target, pretrained: images.pretrained)
            return (loss, [:])
        }
        let dimensions = Array(1..<policy.rank)
        return (
            (policy - base - change).square().mean(dimensions), ["flow_gradient": try change.square().mean(dimensions).array()]
        )
    }
}
