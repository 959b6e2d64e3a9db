import Foundation
import Rewards
import Support
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
        let balances = try self.balances(rollout, conditioning, trajectories)
        for block in trajectories.chunks(of: shape.trajectories) {
            // From data to noise: the reward of a transition's later state is known from the pass before.
            var laterRewards = block.map { rollout.rewards[$0] }
            var end = kernels.transitions
            while end > 0 {
                report(.training, done, passes)
                try checkCancellation()
                done += 1
                let range = max(0, end - shape.steps)..<end
                let pass = try self.pass(rollout, conditioning, block, range, laterRewards: laterRewards, balances: balances)
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
                """
                loss or gradient is not finite in step \(progress.step): lower \(setting: "learning_rate"), \
                \(setting: "flow_learning_rate") or \(setting: "beta"), or use \(setting: "precision") fp32; \
                the weights before this step are kept
                """)
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
        _ rollout: Rollout, _ conditioning: Conditioning?, _ block: [Int], _ range: Range<Int>, laterRewards: [Float],
        balances: [Int: Balance] = [:]
    ) throws -> Pass {
        let view = View(of: rollout, block, range, kernels, pipeline.device)
        let (x, next, indices) = (view.x, view.next, view.indices)
        let (guided, conditional) = pipeline.denoise(
            x, times: view.times, conditioning?.rows(view.trajectories), guidance: configuration.guidanceScale)
        var (rewards, report) = try lookaheadRewards(rollout, block, range, conditional, x: x, indices: indices)
        let firstRewards = rewards.first ?? laterRewards
        let weight = weights(rollout, block, range, rewards + [laterRewards])
        rewards = (rewards + [laterRewards]).map { $0.map { $0.isNaN ? 0 : $0 } }
        let transitions = Transitions(
            logForward: kernels.logForward(guided, x: x, next: next, steps: indices),
            logForwardAtRollout: view.gather(rollout.logForward), logBackward: logBackward(rollout, view),
            logFlow: flow.map { logFlows($0, rollout, conditioning, block, range, rewards: rewards) },
            balance: balances.isEmpty ? nil : view.balance(balances),
            advantage: Tensor(view.trajectories.map { progress.advantages[$0] }, device: pipeline.device),
            weight: Tensor(weight, device: pipeline.device), groupSize: min(configuration.trainBatchSize, block.count))

        var loss = objective.loss(transitions)
        var regularization: Tensor?
        if objective.usesFlow, configuration.unetRegularization > 0 {
            let distance = (guided - view.gather(rollout.guided)).square().mean(Array(1..<x.rank))
            regularization = distance
            loss = loss + distance * configuration.unetRegularization
        }
        return Pass(
            loss: loss * transitions.weight, transitions: transitions, regularization: regularization, firstRewards: firstRewards,
            report: report)
    }

    /// The transitions of a block of trajectories at a range of steps, one after the other: [steps x trajectories].
    struct View {
        /// Trajectory of each.
        let trajectories: [Int]
        /// The states before and after.
        let x, next: Tensor
        /// Step numbers, and their training timesteps: int64.
        let indices, times: Tensor
        private let block: [Int]
        private let range: Range<Int>

        init(of rollout: Rollout, _ block: [Int], _ range: Range<Int>, _ kernels: TransitionKernels, _ device: Device) {
            (self.block, self.range) = (block, range)
            trajectories = range.flatMap { _ in block }
            let steps = range.flatMap { step in block.map { _ in step } }
            indices = Tensor(steps.map(Int64.init), device: device)
            times = kernels.times(steps, device: device)
            x = Tensor.cat(range.map { rollout.states[$0].rows(block) }, 0)
            next = Tensor.cat(range.map { rollout.states[$0 + 1].rows(block) }, 0)
        }

        /// What a list that has [N] numbers or samples a step says of them.
        func gather(_ list: [Tensor]) -> Tensor { Tensor.cat(range.map { list[$0].rows(block) }, 0) }

        /// The balances of their trajectories at their steps.
        func balance(_ balances: [Int: Balance]) -> (loss: Tensor, slope: Tensor) {
            func column(_ number: (Balance, Int) -> Float) -> Tensor {
                Tensor(range.flatMap { step in block.map { number(balances[$0]!, step) } }, device: x.device)
            }
            return (column { balance, _ in balance.loss }, column { balance, step in balance.slopes[step] })
        }
    }

    /// log P_B of transitions, or what stands in its place for an anchored target, [n].
    private func logBackward(_ rollout: Rollout, _ view: View) -> Tensor {
        configuration.target == .anchored
            ? view.gather(rollout.logReference) : kernels.logBackward(x: view.x, next: view.next, steps: view.indices)
    }

    /// A trajectory's loss and its slopes in the residuals of its T transitions.
    typealias Balance = (loss: Float, slopes: [Float])

    /// Losses over whole trajectories with the current weights, without a graph: whatever their length, a pass at a time is in memory.
    /// Empty for objectives over single transitions.
    private func balances(_ rollout: Rollout, _ conditioning: Conditioning?, _ trajectories: [Int]) throws -> [Int: Balance] {
        guard let balance = objective as? TrajectoryBalance, let flow else { return [:] }
        var residuals = Dictionary(uniqueKeysWithValues: trajectories.map { ($0, [Float](repeating: 0, count: kernels.transitions)) })
        try withoutGradients {
            for block in trajectories.chunks(of: passShape.trajectories) {
                for start in stride(from: 0, to: kernels.transitions, by: passShape.steps) {
                    try checkCancellation()
                    let range = start..<min(start + passShape.steps, kernels.transitions)
                    let view = View(of: rollout, block, range, kernels, pipeline.device)
                    let rewards = (range.lowerBound...range.upperBound).map { step in
                        block.map { step < kernels.transitions ? rollout.lookahead[step][$0] : rollout.rewards[$0] }
                    }
                    let residual = try Transitions.residual(
                        logFlows(flow, rollout, conditioning, block, range, rewards: rewards),
                        logForward: logForward(rollout, conditioning, view), logBackward: logBackward(rollout, view)
                    ).array(Float.self)
                    for (place, trajectory) in view.trajectories.enumerated() {
                        residuals[trajectory]![range.lowerBound + place / block.count] = residual[place]
                    }
                }
            }
        }
        // A dropped trajectory has no reward; its weight is zero.
        return residuals.mapValues { $0.contains(where: \.isNaN) ? (0, $0.map { _ in 0 }) : balance.balance($0) }
    }

    /// log P_F of transitions with the current weights, [n]: the rollout's own, as long as the weights are those of the rollout.
    private func logForward(_ rollout: Rollout, _ conditioning: Conditioning?, _ view: View) -> Tensor {
        guard progress.update > 0 else { return view.gather(rollout.logForward) }
        let guided = pipeline.denoise(
            view.x, times: view.times, conditioning?.rows(view.trajectories), guidance: configuration.guidanceScale
        ).guided
        return kernels.logForward(guided, x: view.x, next: view.next, steps: view.indices)
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
                seeds: trajectories.map { seeds(.rollout, epoch: progress.epoch, index: $0) }), heldOut: false, check: checkWhileWaiting)
        return (report.reward.chunks(of: block.count), report)
    }

    /// log F(x_t) and log F(x_t') of a range: beta R(x0 predicted) + f_phi, and beta R alone at the end.
    /// - Parameter rewards: [steps + 1][trajectories].
    private func logFlows(
        _ flow: any FlowNetwork, _ rollout: Rollout, _ conditioning: Conditioning?, _ block: [Int], _ range: Range<Int>, rewards: [[Float]]
    ) -> Transitions.Flows {
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

    func stepMetrics(_ sums: UpdateSums, _ scored: ScoredEpoch, transitionsPerSecond: Double) -> StepMetrics {
        let rollout = scored.rollout
        let reward = Moments(evaluator.total(rollout.objectives))
        return StepMetrics(
            epoch: progress.epoch, step: progress.step - 1, rewardMean: Double(reward.mean), rewardStd: Double(reward.deviation),
            objectives: rollout.objectives.mapValues { Double(Moments($0).mean) }, diversity: scored.diversity,
            baseDivergence: scored.baseDivergence, loss: sums.mean(sums.loss),
            squaredResidual: sums.mean(sums.squaredResidual), regularization: sums.mean(sums.regularization),
            ratioDeviation: sums.ratioDeviation, clipFraction: sums.mean(sums.clipped(configuration.clipRange)),
            policyGradNorm: sums.policyGradNorm, flowGradNorm: sums.flowGradNorm, beta: configuration.beta(epoch: progress.epoch),
            trajectories: (progress.epoch + 1) * configuration.trajectoriesPerEpoch, dropped: rollout.dropped,
            droppedTransitions: sums.droppedTransitions, imputed: rollout.imputed + sums.imputed,
            transitionsPerSecond: transitionsPerSecond)
    }
}
