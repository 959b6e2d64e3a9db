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
        let factors = flowGradient == nil ? try gradientFactors(replay, epoch: epoch, step: step) : nil
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
                let (loss, metrics) = try flowGradient.map { (flowLoss(images, $0), [:]) } ?? policyLoss(images, replay, factors: factors)
                try (loss.sum() / Double(size)).backward()
                let numbers = metrics.merging(["effective_share": block.map { _ in Float(draw.effectiveShare) }]) { $1 }
                try passes.sums.add(loss.detach().array(), numbers)
            }
        }
    }

    /// Measures c_t of the flow's gradient before the policy's first step of an epoch, on all ranks together.
    /// - Returns: float32 [transitions]; nil for an algorithm without such a gradient.
    private func gradientFactors(_ replay: Replay, epoch: Int, step: Int) throws -> Tensor? {
        guard let gradient = replay.gradient else { return nil }
        if replay.state.gradientFactors == nil {
            let scale = try measure(gradient, replay, epoch: epoch)
            if let warning = scale.warning { monitor.warn("step \(step): \(warning)") }
            replay.state.gradientFactors = scale.factors
        }
        return replay.state.gradientFactors.map { Tensor($0.map(Float.init), device: model.device) }
    }

    private func measure(_ gradient: FlowGradient, _ replay: Replay, epoch: Int) throws -> FlowGradient.Scale {
        let count = kernel.transitions
        let images = replay.heldOut(newest: configuration.trajectoriesPerEpoch)
        let rows = replay.everyStep(of: images, steps: count, beta: configuration.beta(epoch: epoch))
        let seeds = Seeds(Seeds(configuration.seed)(.gradientFactors, epoch: epoch))
        let blocks = Array(rows.images.indices).chunks(of: configuration.samplesPerPass(of: model))
        let products = try team.map("gradient factors", blocks) { block -> [[Double]] in
            try monitor.throwIfCancelled()
            let images = try noisedImages(block, of: rows, replay, seeds)
            let change = try noise(of: gradient, images)
            let base = withoutGradients { model.withoutAdapters { predictedNoise(images) } }
            let weights = images.target - images.pretrained
            let projection = kernel.projection(of: change, on: images.noise, from: base, steps: images.steps) * weights
            let square = kernel.squaredMove(change, steps: images.steps) * images.target
            return try [projection, square].map { try $0.array(Float.self).map(Double.init) }
        }
        func ofImages(_ k: Int) -> [[Double]] { products.flatMap { $0[k] }.chunks(of: count).map(Array.init) }
        func weights(_ numbers: [Float]) -> [Double] { images.indices.map { Double(numbers[$0 * count]) } }
        return FlowGradient.Scale(
            projections: ofImages(0), squares: ofImages(1), target: weights(rows.target), pretrained: weights(rows.pretrained),
            steps: count)
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
    /// - Parameter factors: c_t of the flow's gradient, float32 [transitions]; nil: 1.
    func policyLoss(_ images: NoisedImages, _ replay: Replay, factors: Tensor? = nil) throws -> (loss: Tensor, metrics: [String: [Float]]) {
        let factors = (factors ?? Tensor.full([kernel.transitions], 1, device: model.device)).indexSelect(0, images.steps)
        // Before the policy's graph, so that there is one graph at a time.
        let change = try replay.gradient.map {
            try noise(of: $0, images) * factors.reshape([images.steps.size(0)] + Array(repeating: 1, count: images.x.rank - 1))
        }
        let base = withoutGradients { model.withoutAdapters { predictedNoise(images) } }
        let policy = GradientCheckpointing.$isEnabled.withValue(configuration.gradientCheckpointing) { predictedNoise(images) }
        guard let change else {
            let loss = Replay.loss(policy, base: base, noise: images.noise, target: images.target, pretrained: images.pretrained)
            return (loss, [:])
        }
        let dimensions = Array(1..<policy.rank)
        return (
            (policy - base - change).square().mean(dimensions),
            ["flow_gradient": try change.square().mean(dimensions).array(), "flow_gradient_factor": try factors.array()]
        )
    }
}
