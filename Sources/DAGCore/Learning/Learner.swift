import Images
import Models
import NN
import Rewards
import Support
import Tensors

/// Learns from scored trajectories: losses of all transitions, pass by pass, gradients, optimiser steps.
final class Learner {
    /// Scores predicted data with the current weights, for `ForwardLooking.current`.
    typealias PredictionScorer = (_ images: ImageBatch, _ epoch: ScoredEpoch, _ trajectories: [Int]) throws -> RewardReport

    let model: any DiffusionModel
    let kernel: any TransitionKernel
    let lora: LoRAAdapters
    let algorithm: any Algorithm
    let policyOptimizer: AdamW
    /// Trains the state flow; nil for algorithms without one.
    let flowOptimizer: AdamW?

    private let configuration: TrainingConfiguration
    private let monitor: Monitor
    private let team: Team
    private let scorePredictions: PredictionScorer?

    /// Attaches fresh adapters to the model and makes the algorithm with its networks.
    /// - Parameters:
    ///   - scorePredictions: needed only for `ForwardLooking.current`.
    ///   - makeFlow: makes the network of the state flow; nil: `StateFlow`.
    /// - Throws: `ModelError`, `TensorError`, or `ConfigurationError` if no step of the schedule has noise.
    init(
        _ configuration: TrainingConfiguration, model: any DiffusionModel, kernel: any TransitionKernel, monitor: Monitor = Monitor(),
        team: Team = Team(), scorePredictions: PredictionScorer? = nil, makeFlow: ((ParameterStore) throws -> any FlowNetwork)? = nil
    ) throws {
        self.configuration = configuration
        self.model = model
        self.monitor = monitor
        self.team = team
        self.scorePredictions = scorePredictions
        self.kernel = kernel
        guard kernel.transitions > 0 else {
            throw ConfigurationError(
                "\(setting: "steps") \(configuration.steps): this model's schedule leaves no step with noise; use more")
        }
        let seeds = Seeds(configuration.seed)
        lora = LoRAAdapters(
            rank: configuration.loraRank, seed: seeds(.loraInitialization), attachingTo: model.linears, device: model.device)
        policyOptimizer = AdamW(
            lora.parameters, learningRate: configuration.learningRate, weightDecay: configuration.weightDecay)
        algorithm = try configuration.algorithm.make(configuration) {
            let store = ParameterStore(seed: seeds(.flowInitialization), device: model.device)
            return try makeFlow?(store) ?? StateFlow(store, beside: model)
        }
        flowOptimizer = algorithm.trainedFlow.map {
            AdamW($0.parameters, learningRate: configuration.flowLearningRate, weightDecay: configuration.weightDecay)
        }
    }

    /// Whether the algorithm has a state flow, and so needs scores of predicted data.
    var usesFlow: Bool { flowOptimizer != nil }
    /// Whether the rollout is to score predicted data.
    var wantsLookahead: Bool { usesFlow && configuration.forwardLooking == .rollout }

    /// Makes one step of both optimisers on all transitions of some trajectories, of which each rank has some
    /// groups.
    /// - Parameters:
    ///   - trajectories: by their places in the epoch.
    ///   - update: optimiser steps of this epoch before this one.
    ///   - step: optimiser steps of the run before this one, for messages.
    /// - Throws: `NotFiniteError` if loss or gradient is not finite, an error of a reward, `TensorError`, or
    ///   `Cancelled`; weights and optimisers are then as before.
    func step(_ epoch: ScoredEpoch, _ trajectories: [Int], update: Int, step: Int) throws -> StepSums {
        // Half a step's gradients must not reach the next one.
        defer {
            policyOptimizer.clearGradients()
            flowOptimizer?.clearGradients()
        }
        // The mean is without dropped trajectories and, below, transitions whose predictions get no score.
        let kept = trajectories.count { !epoch.rollout.scores.final[$0].isNaN } * kernel.transitions
        let groups = trajectories.chunks(of: configuration.trainBatchSize)
        let own = team.share(of: groups.count)
        let ownTrajectories = Array(groups[own].joined())
        try algorithm.prepareStep(ownTrajectories) { body in
            try withoutGradients { try forEachPass(epoch, ownTrajectories, isOnPolicy: update == 0, body) }
        }
        var sums = StepSums()
        var gradients = OrderedSum(count: groups.count)
        let ranges = stepRanges
        for place in own {
            // From data to noise: the score at a transition's later state is known from the pass before.
            var laterScores = groups[place].map { epoch.rollout.scores.final[$0] }
            for (number, range) in ranges.reversed().enumerated() {
                monitor.report(.training, (place - own.lowerBound) * ranges.count + number, of: own.count * ranges.count)
                try monitor.throwIfCancelled()
                let pass = try GradientCheckpointing.$isEnabled.withValue(configuration.gradientCheckpointing) {
                    try self.pass(TransitionBatch(epoch, groups[place], range, model, kernel), epoch, laterScores: laterScores)
                }
                try (pass.weightedLoss.sum() / Double(max(1, kept))).backward()
                try sums.add(pass)
                laterScores = pass.firstScores
            }
            gradients.add(takeGradients(), of: place)
        }
        sums = StepSums(concatenating: try team.exchange("losses", sums))
        setGradients(try gradients.total(team))
        let counted = sums.loss.count
        if counted > 0, counted < kept {
            policyOptimizer.scaleGradients(by: Double(kept) / Double(counted))
            flowOptimizer?.scaleGradients(by: Double(kept) / Double(counted))
        }
        if let failure = sums.firstFailure {
            let what = shortfall(dropped: kept - counted, of: "\(kept) transitions", imputed: sums.imputed)
            monitor.onWarning("step \(step): \(what): \(failure)")
        }
        sums.policyGradNorm = try policyOptimizer.clipGradients(maxNorm: configuration.maxGradNorm)
        sums.flowGradNorm = try flowOptimizer?.clipGradients(maxNorm: configuration.maxGradNorm) ?? 0
        guard sums.mean(sums.loss).isFinite, sums.policyGradNorm.isFinite, sums.flowGradNorm.isFinite else {
            let rates: Message =
                usesFlow
                ? "\(setting: "learning_rate"), \(setting: "flow_learning_rate") or \(setting: "beta")" : "\(setting: "learning_rate")"
            let precision: Message = model.dtype == .float32 ? "" : ", or use \(setting: "precision") fp32"
            throw NotFiniteError("loss or gradient is not finite in step \(step): lower \(rates)\(precision)")
        }
        guard counted > 0 else { return sums }
        try policyOptimizer.step()
        try flowOptimizer?.step()
        return sums
    }

    /// The losses of one pass, differentiable.
    struct Pass {
        /// [n]; zero for dropped transitions.
        let weightedLoss: Tensor
        let transitions: Transitions
        let metrics: [String: [Float]]
        /// Scores of the predicted data at the first (noisiest) state of the range, [trajectories].
        let firstScores: [Float]
        /// The rewards' answer on data predicted in this pass; nil if the rollout's scores were used.
        let report: RewardReport?
    }

    /// Computes the losses of a batch of transitions with the current weights.
    /// - Parameter laterScores: scores at the state after the range, [trajectories].
    /// - Throws: an error of a reward, `TensorError`.
    func pass(_ batch: TransitionBatch, _ epoch: ScoredEpoch, laterScores: [Float]) throws -> Pass {
        let (guided, conditional) = batch.denoise(guidance: configuration.guidanceScale)
        let (lookahead, report) = try lookaheadScores(batch, epoch, conditional)
        let transitions = transitions(batch, epoch, scores: lookahead + [laterScores], logForward: batch.logForward(guided))
        let loss = try algorithm.loss(transitions)
        var values = loss.values
        var metrics = loss.metrics
        if usesFlow, configuration.unetRegularization > 0 {
            let distance = (guided - batch.guidedAtRollout).square().mean(Array(1..<guided.rank))
            values = values + distance * configuration.unetRegularization
            metrics["regularization"] = try distance.detach().array()
        }
        return Pass(
            weightedLoss: values * transitions.weight, transitions: transitions, metrics: metrics,
            firstScores: lookahead.first ?? laterScores, report: report)
    }

    /// Computes a full pass of an update and its gradients, as `step` does, and forgets them.
    /// - Parameter trajectories: a group of the epoch, by their places in it.
    /// - Returns: the floating-point operations of the pass without its gradients.
    /// - Throws: an error of a reward, `TensorError`.
    func rehearse(_ epoch: ScoredEpoch, _ trajectories: [Int]) throws -> Double {
        defer { _ = takeGradients() }
        let batch = TransitionBatch(epoch, trajectories, 0..<stepRanges.last!.count, model, kernel)
        _ = algorithm.prepareEpoch(scores: epoch.rollout.scores.final, prompts: epoch.rollout.prompts)
        try algorithm.prepareStep(trajectories) { body in
            let scores = batch.lookaheadAtRollout + [batch.scoresAtEnd]
            try withoutGradients { try body(transitions(batch, epoch, scores: scores, logForward: batch.logForwardAtRollout)) }
        }
        let (pass, operations) = try OperationCount.of {
            try GradientCheckpointing.$isEnabled.withValue(configuration.gradientCheckpointing) {
                try self.pass(batch, epoch, laterScores: batch.scoresAtEnd)
            }
        }
        try pass.weightedLoss.sum().backward()
        // Waits for the device.
        _ = try policyOptimizer.clipGradients(maxNorm: .infinity)
        return operations
    }

    /// Makes the algorithm's view of a batch.
    /// - Parameter scores: [steps + 1][trajectories]; the last alone for algorithms without a flow.
    func transitions(_ batch: TransitionBatch, _ epoch: ScoredEpoch, scores: [[Float]], logForward: Tensor) -> Transitions {
        let beta = configuration.beta(epoch: epoch.index)
        // A missing score has weight zero; its NaN must not reach the sums.
        let finite = scores.map { $0.map { $0.isNaN ? 0 : $0 } }
        return Transitions(
            trajectories: batch.trajectories, steps: batch.steps, groupSize: min(configuration.trainBatchSize, batch.block.count),
            logForward: logForward, logForwardAtRollout: batch.logForwardAtRollout, logBackward: batch.logBackward(configuration.target),
            weight: Tensor(batch.weights(scores), device: model.device),
            logFlows: { batch.logFlows($0, scores: finite, beta: beta) })
    }

    /// Calls `body` with all transitions of some trajectories at the scores of the rollout.
    /// - Parameter isOnPolicy: whether the weights are still the rollout's, and so is log P_F.
    private func forEachPass(
        _ epoch: ScoredEpoch, _ trajectories: [Int], isOnPolicy: Bool, _ body: (Transitions) throws -> Void
    ) throws {
        for block in trajectories.chunks(of: configuration.trainBatchSize) {
            for range in stepRanges {
                try monitor.throwIfCancelled()
                let batch = TransitionBatch(epoch, block, range, model, kernel)
                let logForward =
                    isOnPolicy
                    ? batch.logForwardAtRollout : batch.logForward(batch.denoise(guidance: configuration.guidanceScale).guided)
                try body(
                    transitions(batch, epoch, scores: batch.lookaheadAtRollout + [batch.scoresAtEnd], logForward: logForward))
            }
        }
    }

    /// Scores of predicted data, [steps][trajectories], from the rollout or with the current weights.
    private func lookaheadScores(
        _ batch: TransitionBatch, _ epoch: ScoredEpoch, _ conditional: Tensor
    ) throws -> ([[Float]], RewardReport?) {
        guard usesFlow else { return ([], nil) }
        guard configuration.forwardLooking == .current else { return (batch.lookaheadAtRollout, nil) }
        guard let scorePredictions else { throw OrderError("there is no reward to score predicted data with") }
        let images = try withoutGradients { try model.decodePrediction(batch.predictedData(conditional.detach())) }
        let report = try scorePredictions(images, epoch, batch.trajectories)
        return (report.reward.chunks(of: batch.block.count), report)
    }

    /// The steps of the passes over a group, from noise to data; the first range may be shorter.
    var stepRanges: [Range<Int>] {
        let rows = configuration.rowsPerPass(of: model) / model.rowsPerSample(guidance: configuration.guidanceScale)
        let steps = min(kernel.transitions, max(1, rows / configuration.trainBatchSize))
        return stride(from: kernel.transitions, to: 0, by: -steps).map { max(0, $0 - steps)..<$0 }.reversed()
    }

    /// Returns the gradients of adapters and flow as one vector, and forgets them.
    private func takeGradients() -> Tensor {
        Tensor.cat([policyOptimizer.takeGradients()] + (flowOptimizer.map { [$0.takeGradients()] } ?? []), 0)
    }

    /// Puts what `takeGradients` returned, or a sum of such, in place.
    private func setGradients(_ vector: Tensor) {
        policyOptimizer.setGradients(vector.narrow(0, 0, policyOptimizer.count))
        flowOptimizer.map { $0.setGradients(vector.narrow(0, policyOptimizer.count, $0.count)) }
    }

    /// Adapters, state flow and both optimisers by name, for a checkpoint.
    var tensors: [String: Tensor] {
        policyOptimizer.state("lora").merging(flowOptimizer?.state("flow") ?? [:]) { first, _ in first }
    }

    /// Puts the tensors of a checkpoint in place.
    /// - Throws: `TensorFileError` if they do not fit.
    func restore(_ tensors: [String: Tensor]) throws {
        try policyOptimizer.restore(tensors, "lora")
        try flowOptimizer?.restore(tensors, "flow")
    }
}

/// Describes the images that rewards could not score.
func shortfall(dropped: Int, of what: String, imputed: Int) -> String {
    var parts: [String] = []
    if dropped > 0 { parts.append("\(dropped) of \(what) were dropped") }
    if imputed > 0 { parts.append("\(imputed) scores were assumed") }
    return parts.isEmpty ? "a reward that is only logged has gaps" : parts.joined(separator: ", ")
}
