import Foundation
import Rewards
import Tensors

/// One optimiser step: the losses of all transitions of some trajectories, pass by pass.
extension Trainer {
    /// Accumulates the gradients of all transitions of `trajectories`, pass by pass, and makes one step with both optimisers.
    func update(_ rollout: Rollout, _ conditioning: Conditioning?, _ trajectories: [Int]) throws -> UpdateSums {
        var sums = UpdateSums()
        // Half a step's gradients must not reach the next one.
        defer {
            policyOptimizer.clearGradients()
            flowOptimizer?.clearGradients()
        }
        // Dropped trajectories have no part in the mean; nor have transitions whose predicted data turns out to have no score.
        let kept = trajectories.count { !rollout.rewards[$0].isNaN } * kernels.transitions
        let shape = passShape
        let passes =
            (trajectories.count + shape.trajectories - 1) / shape.trajectories * ((kernels.transitions + shape.steps - 1) / shape.steps)
        var done = 0
        for block in trajectories.blocks(of: shape.trajectories) {
            // From data to noise: the reward of a transition's later state is known from the pass before.
            var laterRewards = block.map { rollout.rewards[$0] }
            var end = kernels.transitions
            while end > 0 {
                try checkCancellation()
                onProgress(.training, done, passes)
                done += 1
                let range = max(0, end - shape.steps)..<end
                let pass = try self.pass(rollout, conditioning, block, range, laterRewards: laterRewards)
                try (pass.loss.sum() / Double(max(1, kept))).backward()
                try sums.add(pass)
                laterRewards = pass.firstRewards
                end = range.lowerBound
            }
        }
        let counted = sums.loss.count
        if counted > 0, counted < kept {
            policyOptimizer.scaleGradients(by: Double(kept) / Double(counted))
            flowOptimizer?.scaleGradients(by: Double(kept) / Double(counted))
        }
        if let failure = sums.firstFailure {
            onWarning(
                "step \(progress.step): \(Self.shortfall(dropped: kept - counted, of: "\(kept) transitions", imputed: sums.imputed)): \(failure)"
            )
        }
        sums.policyGradNorm = try policyOptimizer.clipGradients(maxNorm: configuration.maxGradNorm)
        sums.flowGradNorm = try flowOptimizer?.clipGradients(maxNorm: configuration.maxGradNorm) ?? 0
        guard sums.mean(sums.loss).isFinite, sums.policyGradNorm.isFinite, sums.flowGradNorm.isFinite else {
            throw TrainingError(
                description:
                    "loss or gradient is not finite in step \(progress.step): lower --learning-rate, --flow-learning-rate or --beta, or use --precision fp32; the weights before this step are kept"
            )
        }
        guard counted > 0 else { return sums }
        try policyOptimizer.step()
        try flowOptimizer?.step()
        return sums
    }

    /// What one pass over some transitions gives, differentiable.
    struct Pass {
        let loss: Tensor
        let transitions: Transitions
        let regularization: Tensor?
        /// Rewards of the predicted data at the first (noisiest) state of the range.
        let firstRewards: [Float]
        /// What the rewards said of predicted data now; nil if they were asked during the rollout.
        let report: RewardReport?
    }

    /// The loss of the transitions of a block of trajectories at a range of steps, [steps x trajectories].
    func pass(
        _ rollout: Rollout, _ conditioning: Conditioning?, _ block: [Int], _ range: Range<Int>, laterRewards: [Float]
    ) throws -> Pass {
        func gather(_ list: [Tensor], _ range: Range<Int>) -> Tensor { Tensor.cat(range.map { list[$0].rows(block) }, 0) }
        func repeated(_ count: Int) -> [Int] { (0..<count).flatMap { _ in block } }
        let stepNumbers = range.flatMap { step in block.map { _ in step } }
        let indices = Tensor(stepNumbers.map(Int64.init), device: pipeline.device)
        let times = kernels.times(stepNumbers, device: pipeline.device)
        let x = gather(rollout.states, range)
        let next = gather(rollout.states, range.lowerBound + 1..<range.upperBound + 1)

        let (guided, conditional) = pipeline.denoise(
            x, times: times, conditioning?.rows(repeated(range.count)), guidance: configuration.guidanceScale)
        var (rewards, report) = try lookaheadRewards(rollout, block, range, conditional, x: x, indices: indices)
        let firstRewards = rewards.first ?? laterRewards
        let weight = weights(rollout, block, range, rewards + [laterRewards])
        rewards = (rewards + [laterRewards]).map { $0.map { $0.isNaN ? 0 : $0 } }
        let transitions = Transitions(
            logForward: kernels.logForward(guided, x: x, next: next, steps: indices),
            logForwardAtRollout: gather(rollout.logForward, range),
            logBackward: kernels.logBackward(x: x, next: next, steps: indices),
            logFlow: flow.map { logFlows($0, rollout, conditioning, block, range, rewards: rewards) },
            advantage: Tensor(repeated(range.count).map { progress.advantages[$0] }, device: pipeline.device),
            weight: Tensor(weight, device: pipeline.device), groupSize: min(configuration.trainBatchSize, block.count))

        var loss = objective.loss(transitions)
        var regularization: Tensor?
        if objective.usesFlow, configuration.unetRegularization > 0 {
            let distance = (guided - gather(rollout.guided, range)).square().mean(Array(1..<x.rank))
            regularization = distance
            loss = loss + distance * configuration.unetRegularization
        }
        return Pass(
            loss: loss * transitions.weight, transitions: transitions, regularization: regularization, firstRewards: firstRewards,
            report: report)
    }

    /// Zero for the transitions of dropped trajectories and those at a state whose predicted data could not be scored, else one.
    /// - Parameter rewards: [steps + 1][trajectories]; of an objective without a flow the last alone.
    private func weights(_ rollout: Rollout, _ block: [Int], _ range: Range<Int>, _ rewards: [[Float]]) -> [Float] {
        range.indices.flatMap { step in
            block.indices.map { k in
                let states = rewards.count == 1 ? rewards[0...0] : rewards[step - range.lowerBound...step - range.lowerBound + 1]
                return rollout.rewards[block[k]].isNaN || states.contains { $0[k].isNaN } ? 0 : 1
            }
        }
    }

    /// Rewards of the predicted data at the states of a range, [steps][trajectories]: from the rollout, or with the current weights.
    private func lookaheadRewards(
        _ rollout: Rollout, _ block: [Int], _ range: Range<Int>, _ conditional: Tensor, x: Tensor, indices: Tensor
    ) throws -> ([[Float]], RewardReport?) {
        guard objective.usesFlow else { return ([], nil) }
        if configuration.forwardLooking == .rollout { return (range.map { step in block.map { rollout.lookahead[step][$0] } }, nil) }
        let images = try withoutGradients { try pipeline.decode(kernels.predictedData(conditional.detach(), x: x, steps: indices)) }
        let trajectories = range.flatMap { _ in block }
        let report = try evaluator.score(
            RewardBatch(
                images: images, prompts: trajectories.map { rollout.prompts[$0] },
                sampleIDs: trajectories.map { sampleID($0) },
                seeds: trajectories.map { seeds(.rollout, epoch: progress.epoch, index: $0) }))
        return (report.reward.blocks(of: block.count), report)
    }

    /// log F(x_t) and log F(x_t') of a range: beta R(x0 predicted) + f_phi, and beta R alone at the end.
    /// - Parameter rewards: [steps + 1][trajectories].
    private func logFlows(
        _ flow: StateFlow, _ rollout: Rollout, _ conditioning: Conditioning?, _ block: [Int], _ range: Range<Int>, rewards: [[Float]]
    ) -> (now: Tensor, next: Tensor) {
        let states = range.lowerBound...min(range.upperBound, kernels.transitions - 1)
        let x = Tensor.cat(states.map { rollout.states[$0].rows(block) }, 0)
        let times = kernels.times(states.flatMap { step in block.map { _ in step } }, device: pipeline.device)
        var learned = flow(x, times: times, context: conditioning?.prompts.rows(states.flatMap { _ in block }))
        if range.upperBound == kernels.transitions {
            learned = Tensor.cat([learned, Tensor.zeros([block.count], device: pipeline.device)], 0)
        }
        let scored = Tensor(rewards.flatMap { $0 }, device: pipeline.device) * configuration.beta(epoch: progress.epoch)
        let logFlow = learned + scored
        let count = range.count * block.count
        return (logFlow.narrow(0, 0, count), logFlow.narrow(0, block.count, count))
    }

    /// U-Net rows that are computed at once in training: they decide memory and speed, never the result.
    var rowsPerPass: Int {
        let positions = pipeline.sampleShape[1] * pipeline.sampleShape[2]
        return configuration.maxRowsPerPass > 0 ? configuration.maxRowsPerPass : max(16, 8192 / positions)
    }

    /// Trajectories and steps that one pass takes: whole trajectories where they fit, else some steps of one group.
    private var passShape: (trajectories: Int, steps: Int) {
        let c = configuration
        let samples = max(c.trainBatchSize, rowsPerPass / pipeline.rowsPerSample(guidance: c.guidanceScale))
        guard samples >= c.trainBatchSize * kernels.transitions else { return (c.trainBatchSize, samples / c.trainBatchSize) }
        return (min(c.trajectoriesPerUpdate, samples / kernels.transitions / c.trainBatchSize * c.trainBatchSize), kernels.transitions)
    }

    func stepMetrics(_ sums: UpdateSums, _ rollout: Rollout, transitionsPerSecond: Double) -> StepMetrics {
        let reward = PromptStatistics.moments(evaluator.total(rollout.objectives))
        return StepMetrics(
            epoch: progress.epoch, step: progress.step - 1, rewardMean: Double(reward.mean), rewardStd: Double(reward.deviation),
            objectives: rollout.objectives.mapValues { Double(PromptStatistics.moments($0).mean) }, loss: sums.mean(sums.loss),
            squaredResidual: sums.mean(sums.squaredResidual), regularization: sums.mean(sums.regularization),
            ratioDeviation: sums.ratioDeviation, clipFraction: sums.mean(sums.clipped(configuration.clipRange)),
            policyGradNorm: sums.policyGradNorm, flowGradNorm: sums.flowGradNorm, beta: configuration.beta(epoch: progress.epoch),
            trajectories: (progress.epoch + 1) * configuration.trajectoriesPerEpoch, dropped: rollout.dropped,
            droppedTransitions: sums.droppedTransitions, imputed: rollout.imputed + sums.imputed,
            transitionsPerSecond: transitionsPerSecond)
    }
}
