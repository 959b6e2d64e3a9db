import NN
import Tensors

/// A pass of an update, to be measured: see `Trainer.estimate`.
extension Learner {
    /// The network's rows in a full pass of an update: for replay those of the pretrained model too.
    var rowsOfPass: Int {
        let rows = model.rowsPerSample(guidance: configuration.guidanceScale)
        switch method {
        case .transitions: return configuration.evaluationsPerTransition * configuration.trainBatchSize * fullPass.count * rows
        case .replay: return 2 * replayBlocks[0].count * rows
        }
    }

    /// The steps of a full pass over a group.
    private var fullPass: [Int] { passes(over: Array(0..<transitionsPerTrajectory)).last! }

    /// Computes a full pass of an update and its gradients, as `step` does, and forgets them.
    /// - Parameter epoch: a group's trajectories.
    /// - Returns: its floating-point operations. Frozen weights have no gradients, so a backward pass is as
    ///   much again as a forward one, and checkpointing that once more.
    /// - Throws: an error of a reward, `TensorError`.
    func rehearse(_ epoch: ScoredEpoch) throws -> Double {
        defer {
            policyOptimizer.clearGradients()
            flowOptimizer?.clearGradients()
        }
        let passes = configuration.gradientCheckpointing ? 3.0 : 2
        let (loss, operations): (Tensor, Double)
        switch method {
        case .transitions(let algorithm):
            let trajectories = Array(epoch.rollout.prompts.indices)
            let batch = TransitionBatch(epoch, trajectories, fullPass, model, kernel)
            let scores = batch.scoresAtRollout(flowStates)
            _ = algorithm.prepareEpoch(scores: epoch.rollout.scores.final, prompts: epoch.rollout.prompts)
            try algorithm.prepareStep(prompts: Dictionary(uniqueKeysWithValues: zip(trajectories, epoch.rollout.prompts))) { body in
                try withoutGradients { try body(transitions(batch, epoch, scores: scores, logForward: batch.logForwardAtRollout)) }
            }
            let (pass, forward) = try OperationCount.of {
                try checkpointing { try self.pass(batch, epoch, laterScores: scores) }
            }
            // Of the pretrained model there are no gradients.
            let policy = forward / Double(configuration.evaluationsPerTransition)
            (loss, operations) = (pass.weightedLoss, forward + policy * (passes - 1))
        case .replay(let replay):
            let images = try rehearsalImages(epoch, replay)
            let (rows, both) = try OperationCount.of { try checkpointing { try policyLoss(images, replay).loss } }
            // A backward pass to the flow's input is as much again as its forward pass.
            let flow =
                replay.gradient.map { gradient in
                    withoutGradients { OperationCount.of { flowLoss(images, gradient) }.operations }
                } ?? 0
            (loss, operations) = (rows, (both - flow) / 2 * (1 + passes) + passes * flow)
        }
        try loss.sum().backward()
        // Waits for the device.
        _ = try policyOptimizer.clipGradients(maxNorm: .infinity)
        return operations
    }

    /// Computes a full pass of the flow's own steps and its gradients, as `step` does, and forgets them.
    /// - Parameter epoch: a group's trajectories.
    /// - Returns: its floating-point operations: a backward pass is twice a forward one, and checkpointing one more.
    /// - Throws: `TensorError`.
    func rehearseFlow(_ epoch: ScoredEpoch) throws -> Double {
        guard case .replay(let replay) = method, let gradient = replay.gradient, let flowOptimizer else { return 0 }
        defer { flowOptimizer.clearGradients() }
        let images = try rehearsalImages(epoch, replay)
        let (loss, operations) = OperationCount.of { checkpointing { flowLoss(images, gradient) } }
        try loss.sum().backward()
        // Waits for the device.
        _ = try flowOptimizer.clipGradients(maxNorm: .infinity)
        return (configuration.gradientCheckpointing ? 4 : 3) * operations
    }

    private func rehearsalImages(_ epoch: ScoredEpoch, _ replay: Replay) throws -> NoisedImages {
        try keep(epoch.rollout)
        let draw = replay.draw(configuration.trainBatchSize, steps: kernel.transitions, beta: 0, Seeds(0))
        return try noisedImages(replayBlocks[0], of: draw, Seeds(0), replay)
    }
}
