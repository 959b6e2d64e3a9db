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
    func step(_ replay: Replay, _ scored: ScoredEpoch, update: Int, step: Int) throws -> StepSums {
        let epoch = scored.index
        let (size, group) = (configuration.trajectoriesPerUpdate, configuration.trainBatchSize)
        let seeds = Seeds(Seeds(configuration.seed)(.replay, epoch: epoch, index: update))
        let flowUpdates = configuration.flowUpdatesPerEpoch
        let flowGradient = update < flowUpdates ? replay.gradient : nil
        let scale = flowGradient == nil ? try gradientScale(replay, scored, step: step) : nil
        // Before the last step, so that an error leaves all as it was; one step of many changes it little.
        let policyScale = update + 1 == configuration.updatesPerEpoch ? try policyScale(replay, scored) : nil
        let draw = draw(replay, epoch: epoch, update: update)
        // Of the run's steps before this one, the flow had so many in every epoch that began, but for this one's.
        let ownStep = flowGradient == nil ? step - (epoch + 1) * flowUpdates : epoch * flowUpdates + update
        let sums = try optimize(
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
                var numbers = metrics.merging(["effective_share": block.map { _ in Float(draw.effectiveShare) }]) { $1 }
                numbers["policy_scale"] = policyScale.map { scale in block.map { _ in Float(scale.value) } }
                try passes.sums.add(loss.detach().array(), numbers)
            }
        }
        if let policyScale {
            if let warning = policyScale.warning { monitor.warn("step \(step): \(warning)") }
            lora.scale(by: policyScale.value)
            average?.change { lora.scale(by: policyScale.value) }
        }
        return sums
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
    private func gradientScale(_ replay: Replay, _ epoch: ScoredEpoch, step: Int) throws -> Double? {
        guard let gradient = replay.gradient, replay.state.gradientScale == nil else { return replay.state.gradientScale }
        guard configuration.measuresGradientScale else { return 1 }
        let scale = try measure(.gradient, of: gradient, replay, epoch)
        if let warning = scale.warning { monitor.warn("step \(step): \(warning)") }
        replay.state.gradientScale = scale.value
        return scale.value
    }

    /// Measures a of the policy's moves before its last step of an epoch, on all ranks together.
    /// - Returns: a; nil for an algorithm that follows no gradient, for a policy that has made no step, and where
    ///   c could not be measured either, which has been said.
    private func policyScale(_ replay: Replay, _ epoch: ScoredEpoch) throws -> FlowGradient.Scale? {
        guard
            let gradient = replay.gradient, configuration.measuresGradientScale, configuration.replayUpdates > 1,
            replay.heldOut(of: epoch.rollout.scores.final).count >= FlowGradient.Scale.fewest
        else { return nil }
        return try measure(.policy, of: gradient, replay, epoch)
    }

    /// Measures the scale of moves on the epoch's held-out trajectories.
    private func measure(
        _ moves: FlowGradient.Moves, of gradient: FlowGradient, _ replay: Replay, _ epoch: ScoredEpoch
    ) throws -> FlowGradient.Scale {
        let heldOut = replay.heldOut(of: epoch.rollout.scores.final)
        let measured = heldOut.count < FlowGradient.Scale.fewest ? [] : heldOut
        let here = Set(epoch.rollout.held)
        let own = measured.map(\.trajectory).filter(here.contains)
        let blocks = Array(0..<kernel.transitions).chunks(of: configuration.samplesPerPass(of: model))
        // One trajectory at a time: the same passes on any number of ranks.
        let numbers = try own.enumerated().map { number, trajectory -> [[Float]] in
            monitor.report(.training, number, of: own.count)
            try monitor.throwIfCancelled()
            let parts = try blocks.map { steps -> (projections: [Float], shares: [Float]) in
                let batch = TransitionBatch(epoch, [trajectory], steps, model, kernel)
                let context = batch.conditioning?.prompts
                func output() -> Tensor { withoutGradients { batch.denoise(guidance: configuration.guidanceScale).guided } }
                let base = model.withoutAdapters(output)
                func noise(_ output: Tensor) -> Tensor { kernel.predictedNoise(output, x: batch.x, steps: batch.stepNumbers) }
                let (change, share): (Tensor, Tensor)
                switch moves {
                case .gradient:
                    let found = try checkpointing { try gradient(batch.x, times: batch.times, context: context) }
                    (change, share) = (kernel.noise(ofGradient: found.gradient, steps: batch.stepNumbers), found.share)
                case .policy:
                    (change, share) = (noise(output()) - noise(base), gradient.share(batch.x, times: batch.times, context: context))
                }
                let projections = kernel.projection(of: change, on: batch.next, from: base, x: batch.x, steps: batch.stepNumbers)
                return (try projections.array(), try share.array())
            }
            return [parts.flatMap(\.projections), parts.flatMap(\.shares)]
        }
        let (parts, order) = try team.exchange("scale of \(moves.subject)", numbers, of: own)
        let all = parts.flatMap { $0 }
        let weights = replay.weights(beta: configuration.beta(epoch: epoch.index))
        func column(_ numbers: [Double]) -> [Double] { measured.map { numbers[$0.place] } }
        return FlowGradient.Scale(
            of: moves, projections: order.map { all[$0][0].map(Double.init) },
            ratios: zip(order, column(weights.bound)).map { row, bound in all[row][1].map { Double($0) * bound } },
            target: column(weights.target), pretrained: column(weights.pretrained))
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
        /// The largest w / u of the prompt's images, float32 [n].
        let bound: Tensor
    }

    /// Noises images of a draw.
    /// - Parameter places: in the draw.
    func noisedImages(_ places: [Int], of draw: Replay.Draw, _ seeds: Seeds, _ replay: Replay) throws -> NoisedImages {
        let (ends, text) = try replay.images(places.map { draw.images[$0] }, of: model)
        let fresh = places.map { Tensor.randn([1] + model.sampleShape, generator: Generator(seed: seeds(.rollout, index: $0))) }
        let steps = places.map { draw.steps[$0] }
        let stepNumbers = Tensor(steps.map(Int64.init), device: model.device)
        let (x, noise) = kernel.replay(ends, noise: Tensor.cat(fresh, 0).to(model.device), steps: stepNumbers)
        func column(_ numbers: [Float]) -> Tensor { Tensor(places.map { numbers[$0] }, device: model.device) }
        return NoisedImages(
            x: x, noise: noise, steps: stepNumbers, times: kernel.times(steps), conditioning: text, target: column(draw.target),
            pretrained: column(draw.pretrained), bound: column(draw.bound))
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

    /// Computes the policy's losses of noised images, float32 [n], differentiable, and numbers for the metrics.
    /// - Parameter scale: c of the flow's gradient; nil: 1.
    func policyLoss(_ images: NoisedImages, _ replay: Replay, scale: Double? = nil) throws -> (loss: Tensor, metrics: [String: [Float]]) {
        // Before the policy's graph, so that there is one graph at a time.
        let change = try replay.gradient.map {
            let slope = try $0(images.x, times: images.times, context: images.conditioning?.prompts).gradient
            return kernel.noise(ofGradient: slope, steps: images.steps) * (scale ?? 1)
        }
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
