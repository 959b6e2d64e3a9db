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

    /// Makes one step of the optimiser on noised images, of which each rank has some groups.
    func step(_ replay: Replay, epoch: Int, update: Int, step: Int) throws -> StepSums {
        let (size, group) = (configuration.trajectoriesPerUpdate, configuration.trainBatchSize)
        let seeds = Seeds(Seeds(configuration.seed)(.replay, epoch: epoch, index: update))
        let draw = replay.draw(size, steps: kernel.transitions, beta: configuration.beta(epoch: epoch), seeds)
        return try optimize(groups: size / group, passes: replayBlocks.count, kept: size, step: step) { place, passes in
            for block in replayBlocks {
                try passes.next()
                let loss = try loss(block.map { place * group + $0 }, of: draw, replay, seeds)
                try (loss.sum() / Double(size)).backward()
                try passes.sums.add(loss.detach().array(), ["effective_share": block.map { _ in Float(draw.effectiveShare) }])
            }
        }
    }

    /// The places of a group that are computed at once.
    var replayBlocks: [[Int]] {
        Array(0..<configuration.trainBatchSize).chunks(of: configuration.samplesPerPass(of: model))
    }

    /// Computes the losses of noised images, float32 [places], differentiable.
    /// - Parameter places: in the draw.
    func loss(_ places: [Int], of draw: Replay.Draw, _ replay: Replay, _ seeds: Seeds) throws -> Tensor {
        let steps = places.map { draw.steps[$0] }
        let (ends, text) = try replay.images(places.map { draw.images[$0] }, of: model)
        let fresh = places.map { Tensor.randn([1] + model.sampleShape, generator: Generator(seed: seeds(.rollout, index: $0))) }
        let stepNumbers = Tensor(steps.map(Int64.init), device: model.device)
        let (x, noise) = kernel.replay(ends, noise: Tensor.cat(fresh, 0).to(model.device), steps: stepNumbers)
        func predicted() -> Tensor {
            let output = model.denoise(x, times: kernel.times(steps), text, guidance: configuration.guidanceScale).guided
            return kernel.predictedNoise(output, x: x, steps: stepNumbers)
        }
        let base = withoutGradients { model.withoutAdapters(predicted) }
        let policy = GradientCheckpointing.$isEnabled.withValue(configuration.gradientCheckpointing) { predicted() }
        func numbers(_ list: [Float]) -> Tensor { Tensor(places.map { list[$0] }, device: model.device) }
        return Replay.loss(
            policy, base: base, noise: noise, target: numbers(draw.target), pretrained: numbers(draw.pretrained))
    }
}
