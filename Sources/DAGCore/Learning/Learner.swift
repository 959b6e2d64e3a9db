import Foundation
import Images
import Models
import NN
import Rewards
import Support
import Tensors

/// Learns from scored trajectories: losses, pass by pass, gradients, optimiser steps.
final class Learner {
    /// Scores predicted data with the current weights, for `ForwardLooking.current`.
    typealias PredictionScorer = (_ images: ImageBatch, _ epoch: ScoredEpoch, _ trajectories: [Int]) throws -> RewardReport

    let model: any DiffusionModel
    let kernel: any TransitionKernel
    let lora: LoRAAdapters
    let method: Method
    var algorithm: any Algorithm { method.algorithm }
    /// The states whose flow the algorithm balances.
    let flowStates: FlowStates
    let policyOptimizer: AdamW
    /// The average of the adapters' weights; nil if none is kept.
    let average: WeightAverage?
    /// Trains the state flow; nil for algorithms without one.
    let flowOptimizer: AdamW?

    let configuration: TrainingConfiguration
    let team: Team
    let monitor: Monitor
    private let scorePredictions: PredictionScorer?

    /// Attaches fresh adapters to the model and makes the algorithm with its networks.
    /// - Parameters:
    ///   - scorePredictions: needed only for `ForwardLooking.current`.
    ///   - makeFlow: makes the network of the state flow; nil: the configuration's.
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
        do {
            lora = try LoRAAdapters(
                rank: configuration.loraRank, alpha: configuration.loraAlpha > 0 ? configuration.loraAlpha : nil,
                targets: configuration.loraTargets.components(separatedBy: ",").map { $0.trimmingCharacters(in: .whitespaces) },
                seed: seeds(.loraInitialization), attachingTo: model.layers, device: model.device)
        } catch let error as LoRATargetError {
            throw ConfigurationError("\(setting: "lora_targets") \(configuration.loraTargets): \(error)")
        }
        policyOptimizer = AdamW(
            lora.parameters, learningRate: configuration.learningRate, weightDecay: configuration.weightDecay)
        average = configuration.emaDecay > 0 ? WeightAverage(lora.parameters, decay: configuration.emaDecay) : nil
        flowStates = configuration.algorithm.flowStates(configuration, transitions: kernel.transitions)
        method = try configuration.algorithm.make(configuration, flowStates, team: team) {
            let store = ParameterStore(seed: seeds(.flowInitialization), device: model.device)
            return try makeFlow?(store) ?? configuration.flowNetwork.make(store, beside: model)
        }
        flowOptimizer = method.algorithm.trainedFlow.map {
            AdamW($0.parameters, learningRate: configuration.flowLearningRate, weightDecay: configuration.weightDecay)
        }
    }

    /// - Throws: `OrderError` where the method is another.
    private var transitionAlgorithm: any TransitionAlgorithm {
        get throws {
            guard case .transitions(let algorithm) = method else { throw OrderError("replay learns from images, not from transitions") }
            return algorithm
        }
    }

    /// Whether the algorithm has a state flow.
    var usesFlow: Bool { flowOptimizer != nil }
    /// Transitions of each trajectory that are trained on.
    var transitionsPerTrajectory: Int { max(1, Int((configuration.timestepFraction * Double(kernel.transitions)).rounded())) }
    /// The states whose predicted data the rollout is to score.
    var lookahead: [Int] { configuration.forwardLooking == .rollout ? flowStates.predicted : [] }

    /// Transitions of an optimiser step; for replay noised images.
    var transitionsPerUpdate: Int {
        switch method {
        case .transitions: configuration.trajectoriesPerUpdate * transitionsPerTrajectory
        case .replay: configuration.trajectoriesPerUpdate
        }
    }

    /// Makes one step of the optimisers.
    /// - Parameters:
    ///   - update: optimiser steps of this epoch before this one.
    ///   - step: optimiser steps of the run before this one, for messages.
    /// - Throws: `NotFiniteError` if loss or gradient is not finite, an error of a reward, `TensorError`, or
    ///   `Cancelled`; weights and optimisers are then as before.
    func step(_ epoch: ScoredEpoch, update: Int, step: Int) throws -> StepSums {
        switch method {
        case .transitions:
            let size = configuration.trajectoriesPerUpdate
            let trajectories = Array(configuration.order(epoch: epoch.index)[update * size..<(update + 1) * size])
            return try self.step(epoch, trajectories, update: update, step: step)
        case .replay(let replay): return try self.step(replay, epoch, update: update, step: step)
        }
    }

    /// Makes one step of both optimisers on some trajectories, of which each rank has some groups.
    /// - Parameter trajectories: by their places in the epoch.
    func step(_ epoch: ScoredEpoch, _ trajectories: [Int], update: Int, step: Int) throws -> StepSums {
        // The mean is without dropped trajectories and, below, transitions whose predictions get no score.
        let scored = trajectories.filter { !epoch.rollout.scores.final[$0].isNaN }
        let kept = scored.count * transitionsPerTrajectory
        let groups = trajectories.chunks(of: configuration.trainBatchSize)
        let ownTrajectories = Array(groups[team.share(of: groups.count)].joined())
        let prompts = Dictionary(uniqueKeysWithValues: scored.map { ($0, epoch.rollout.prompts[$0]) })
        try transitionAlgorithm.prepareStep(prompts: prompts) { body in
            try withoutGradients { try forEachPass(epoch, ownTrajectories, isOnPolicy: update == 0, body) }
        }
        let count = passes(over: Array(0..<transitionsPerTrajectory)).count
        return try optimize(
            [.policy, .flow], groups: groups.count, passes: count, kept: kept, step: step, ownStep: step,
            updatesPerEpoch: configuration.updatesPerEpoch
        ) { group, progress in
            // From data to noise: the score at a transition's later state is known from the pass before.
            var scores = [kernel.transitions: groups[group].map { epoch.rollout.scores.final[$0] }]
            for steps in passes(over: steps(of: groups[group], epoch: epoch.index)).reversed() {
                try progress.next()
                let pass = try checkpointing {
                    try self.pass(TransitionBatch(epoch, groups[group], steps, model, kernel), epoch, laterScores: scores)
                }
                try (pass.weightedLoss.sum() / Double(max(1, kept))).backward()
                try progress.sums.add(pass)
                scores = pass.scores
            }
        }
    }

    /// Computes what gradients are taken of, with gradient checkpointing if the settings say so.
    func checkpointing<Result>(_ body: () throws -> Result) rethrows -> Result {
        try GradientCheckpointing.$isEnabled.withValue(configuration.gradientCheckpointing, operation: body)
    }

    /// The passes of an optimiser step on this rank: their progress and their numbers.
    struct Passes {
        var sums = StepSums()
        private var done = 0
        private let count: Int
        private let monitor: Monitor

        init(_ count: Int, _ monitor: Monitor) {
            self.count = count
            self.monitor = monitor
        }

        /// Reports progress before each pass.
        /// - Throws: `Cancelled`.
        mutating func next() throws {
            monitor.report(.training, done, of: count)
            try monitor.throwIfCancelled()
            done += 1
        }
    }

    /// The networks that are trained.
    enum Network { case policy, flow }

    /// Makes one step of optimisers on the sum of the gradients of groups, of which each rank computes some.
    /// - Parameters:
    ///   - networks: those that this step is of.
    ///   - passes: of a group.
    ///   - kept: transitions over which the loss is a mean, if all of them get their scores.
    ///   - step: optimiser steps of the run before this one, for messages.
    ///   - ownStep: optimiser steps of these networks before this one: what the learning rates and the average
    ///     of the weights go by.
    ///   - updatesPerEpoch: optimiser steps of these networks an epoch.
    ///   - group: computes the gradients of a group, pass by pass.
    func optimize(
        _ networks: Set<Network>, groups: Int, passes: Int, kept: Int, step: Int, ownStep: Int,
        updatesPerEpoch: Int, _ group: (Int, inout Passes) throws -> Void
    ) throws -> StepSums {
        let policy = networks.contains(.policy) ? policyOptimizer : nil
        let flow = networks.contains(.flow) ? flowOptimizer : nil
        let optimizers = [policy, flow].compactMap { $0 }
        // Half a step's gradients must not reach the next one.
        defer { for optimizer in optimizers { optimizer.clearGradients() } }
        let own = team.share(of: groups)
        var passes = Passes(own.count * passes, monitor)
        var gradients = OrderedSum(count: groups)
        for place in own {
            try group(place, &passes)
            gradients.add(Tensor.cat(optimizers.map { $0.takeGradients() }, 0), of: place)
        }
        var sums = passes.sums
        sums = StepSums(concatenating: try team.exchange("losses", sums))
        let total = try gradients.total(team)
        var start = 0
        for optimizer in optimizers {
            optimizer.setGradients(total.narrow(0, start, optimizer.count))
            start += optimizer.count
        }
        let counted = sums.loss.count
        if counted > 0, counted < kept {
            for optimizer in optimizers { optimizer.scaleGradients(by: Double(kept) / Double(counted)) }
        }
        if let failure = sums.firstFailure {
            let what = shortfall(dropped: kept - counted, of: "\(kept) transitions", imputed: sums.imputed)
            monitor.warn("step \(step): \(what): \(failure)")
        }
        sums.policyGradNorm = try policy?.clipGradients(maxNorm: configuration.maxGradNorm)
        sums.flowGradNorm = try flow?.clipGradients(maxNorm: configuration.maxGradNorm)
        guard [sums.mean(sums.loss), sums.policyGradNorm, sums.flowGradNorm].allSatisfy({ $0?.isFinite ?? true }) else {
            let rates: Message =
                switch (policy, flow) {
                case (_?, _?): "\(setting: "learning_rate"), \(setting: "flow_learning_rate") or \(setting: "beta")"
                case (nil, _): "\(setting: "flow_learning_rate") or \(setting: "beta")"
                case _ where configuration.baseKlCoefficient > 0: "\(setting: "learning_rate") or \(setting: "base_kl_coefficient")"
                default: "\(setting: "learning_rate")"
                }
            let precision: Message = model.dtype == .float32 ? "" : ", or use \(setting: "precision") fp32"
            throw NotFiniteError("loss or gradient is not finite in step \(step): lower \(rates)\(precision)")
        }
        guard counted > 0 else { return sums }
        let factor = configuration.learningRateFactor(step: ownStep, updatesPerEpoch: updatesPerEpoch)
        for optimizer in optimizers { try optimizer.step(factor) }
        if policy != nil { average?.add(step: ownStep) }
        return sums
    }

    /// The losses of one pass, differentiable.
    struct Pass {
        /// [n]; zero for dropped transitions.
        let weightedLoss: Tensor
        let transitions: Transitions
        let metrics: [String: [Float]]
        /// Scores at the states with a flow from the pass on, [trajectories] each, by state.
        let scores: [Int: [Float]]
        /// The rewards' answer on data predicted in this pass; nil if the rollout's scores were used.
        let report: RewardReport?
    }

    /// Computes the losses of a batch of transitions with the current weights.
    /// - Parameter laterScores: scores at states after the batch, [trajectories] each, by state.
    /// - Throws: an error of a reward, `TensorError`.
    func pass(_ batch: TransitionBatch, _ epoch: ScoredEpoch, laterScores: [Int: [Float]]) throws -> Pass {
        let (guided, conditional) = batch.denoise(guidance: configuration.guidanceScale)
        let (own, report) = try scoresOfStates(batch, epoch, conditional)
        let scores = own.merging(laterScores) { first, _ in first }
        let transitions = transitions(batch, epoch, scores: scores, logForward: batch.logForward(guided))
        let loss = try transitionAlgorithm.loss(transitions)
        var values = loss.values
        var metrics = loss.metrics
        if configuration.algorithm.usesBeta, configuration.unetRegularization > 0 {
            let distance = (guided - batch.guidedAtRollout).square().mean(Array(1..<guided.rank))
            values = values + distance * configuration.unetRegularization
            metrics["regularization"] = try distance.detach().array()
        }
        if configuration.baseKlCoefficient > 0 {
            let divergence = batch.baseDivergence(guided, guidance: configuration.guidanceScale, configuration.logProbReduction)
            values = values + divergence * configuration.baseKlCoefficient
            metrics["base_kl_term"] = try divergence.detach().array()
        }
        return Pass(
            weightedLoss: values * transitions.weight, transitions: transitions, metrics: metrics, scores: scores, report: report)
    }

    /// Makes the algorithm's view of a batch.
    /// - Parameter scores: at the states with a flow, [trajectories] each, by state.
    func transitions(_ batch: TransitionBatch, _ epoch: ScoredEpoch, scores: [Int: [Float]], logForward: Tensor) -> Transitions {
        let (beta, target) = (configuration.beta(epoch: epoch.index), configuration.target)
        // A missing score has weight zero; its NaN must not reach the sums.
        let finite = scores.mapValues { $0.map { $0.isNaN ? 0 : $0 } }
        return Transitions(
            trajectories: batch.trajectories, steps: batch.steps, groupSize: min(configuration.trainBatchSize, batch.block.count),
            logForward: logForward, logForwardAtRollout: batch.logForwardAtRollout, logBackward: batch.logBackward(target),
            weight: Tensor(batch.weights(scores), device: model.device),
            logFlows: { batch.logFlows($0, scores: finite, beta: beta, target: target) })
    }

    /// Calls `body` with all transitions of some trajectories, from noise to data, at the rollout's scores.
    /// - Parameter isOnPolicy: whether the weights are still the rollout's, and so is log P_F.
    private func forEachPass(
        _ epoch: ScoredEpoch, _ trajectories: [Int], isOnPolicy: Bool, _ body: (Transitions) throws -> Void
    ) throws {
        for block in trajectories.chunks(of: configuration.trainBatchSize) {
            for steps in passes(over: Array(0..<kernel.transitions)) {
                try monitor.throwIfCancelled()
                let batch = TransitionBatch(epoch, block, steps, model, kernel)
                let logForward =
                    isOnPolicy
                    ? batch.logForwardAtRollout : batch.logForward(batch.denoise(guidance: configuration.guidanceScale).guided)
                try body(transitions(batch, epoch, scores: batch.scoresAtRollout(flowStates), logForward: logForward))
            }
        }
    }

    /// Returns the scores at a batch's states with a flow from the rollout, [trajectories] each, by state;
    /// or, with the current weights, those of the predicted data at each step's state.
    private func scoresOfStates(
        _ batch: TransitionBatch, _ epoch: ScoredEpoch, _ conditional: Tensor
    ) throws -> ([Int: [Float]], RewardReport?) {
        guard configuration.algorithm.scoresPredictions, configuration.forwardLooking == .current else {
            return (batch.scoresAtRollout(flowStates), nil)
        }
        guard let scorePredictions else { throw OrderError("there is no reward to score predicted data with") }
        let images = try withoutGradients { try model.decodePrediction(batch.predictedData(conditional.detach())) }
        let report = try scorePredictions(images, epoch, batch.trajectories)
        let scores = report.reward.chunks(of: batch.block.count)
        return (Dictionary(uniqueKeysWithValues: zip(batch.chosen, scores)), report)
    }

    /// Returns the steps at which a group of trajectories is trained, ascending: `transitionsPerTrajectory`
    /// of them, evenly spaced from a random start. Each step is as likely as any other, so that the mean over
    /// these is unbiased for the mean over all.
    func steps(of group: [Int], epoch: Int) -> [Int] {
        let count = Double(transitionsPerTrajectory)
        // 32 bits, so that no product is rounded up to the end.
        let start = Double(Seeds(configuration.seed)(.timesteps, epoch: epoch, index: group[0]) >> 32) * 0x1p-32
        return (0..<transitionsPerTrajectory).map { Int((Double($0) + start) * Double(kernel.transitions) / count) }
    }

    /// Divides steps into those of the passes over a group, from noise to data; the first may have fewer.
    func passes(over steps: [Int]) -> [[Int]] {
        steps.reversed().chunks(of: max(1, configuration.samplesPerPass(of: model) / configuration.trainBatchSize)).reversed().map {
            $0.reversed()
        }
    }

    /// Fills the fresh adapters with those of `initLora`, if there is one.
    /// - Throws: `TensorFileError`, or `ConfigurationError` if the settings are not for such adapters.
    func start() throws {
        guard !configuration.initLora.isEmpty else { return }
        do {
            try lora.fill(from: URL(fileURLWithPath: configuration.initLora), of: model.layers)
        } catch let error as LoRAMismatch {
            let file: Message = "\(setting: "init_lora") \(configuration.initLora)"
            switch error {
            case .layer(let key): throw ConfigurationError("\(file) adapts \(key), which \(setting: "lora_targets") does not name")
            case .rank(let rank, let key):
                throw ConfigurationError("\(file) has rank \(rank) at \(key), not \(setting: "lora_rank") \(configuration.loraRank)")
            }
        }
        average?.add(step: 0)
    }

    /// Runs `body` with the average of the adapters' weights in their place, if one is kept.
    func withAverage<Result>(_ body: () throws -> Result) rethrows -> Result { try average?.inPlace(body) ?? body() }

    /// Adapters, their average, state flow and both optimisers by name, for a checkpoint.
    var tensors: [String: Tensor] {
        [policyOptimizer.state("lora"), average?.state ?? [:], flowOptimizer?.state("flow") ?? [:], algorithm.tensors]
            .reduce([:]) { $0.merging($1) { $1 } }
    }

    /// Puts the tensors of a checkpoint in place.
    /// - Throws: `TensorFileError` if they do not fit.
    func restore(_ tensors: [String: Tensor]) throws {
        try policyOptimizer.restore(tensors, "lora")
        try average?.restore(tensors)
        try flowOptimizer?.restore(tensors, "flow")
        algorithm.tensors = tensors
    }
}

/// Describes the images that rewards could not score.
func shortfall(dropped: Int, of what: String, imputed: Int) -> String {
    var parts: [String] = []
    if dropped > 0 { parts.append("\(dropped) of \(what) were dropped") }
    if imputed > 0 { parts.append("\(imputed) scores were assumed") }
    return parts.isEmpty ? "a reward that is only logged has gaps" : parts.joined(separator: ", ")
}
