import Foundation
import Rewards
import Tensors
import TestSupport
import Testing

@testable import DAGCore

/// Losses over whole trajectories, computed transition by transition.
@Suite struct TrajectoryBalanceTests {
    private let folders = [0, 1].compactMap { _ in try? TemporaryFolder() }

    /// The loss by its definition, in double precision.
    private func loss(_ residuals: [Double], lambda: Double) -> Double {
        let pairs = pairs(residuals.count, lambda)
        return pairs.reduce(0) { $0 + $1.weight * pow(residuals[$1.from..<$1.to].reduce(0, +), 2) }
    }

    /// The stretches of all lengths and their weights, whose sum is 1.
    private func pairs(_ count: Int, _ lambda: Double) -> [(from: Int, to: Int, weight: Double)] {
        let all = (0..<count).flatMap { i in (i + 1...count).map { (from: i, to: $0, weight: pow(lambda, Double($0 - i - 1))) } }
        let total = all.reduce(0) { $0 + $1.weight }
        return all.map { ($0.from, $0.to, $0.weight / total) }
    }

    @Test(arguments: [0, 0.3, 0.9, 1.0], [[0.5, -1.25, 2, 0.125, -0.75, 1.5], [0.75]])
    func lossAndSlopes(lambda: Double, residuals: [Double]) {
        let (value, slopes) = StretchBalances.balance(residuals, lambda: lambda)
        #expect(abs(value - loss(residuals, lambda: lambda)) < 1e-12)
        for t in residuals.indices {
            func moved(_ by: Double) -> Double {
                var changed = residuals
                changed[t] += by
                return loss(changed, lambda: lambda)
            }
            #expect(abs(slopes[t] - (moved(1e-4) - moved(-1e-4)) / 2e-4) < 1e-8, "\(t)")
        }
    }

    /// The states with a flow, and the transitions between them.
    @Test func statesWithAFlow() {
        let states = FlowStates(transitions: 7, spacing: 3)
        #expect(states.predicted == [0, 3, 6] && states.stretches == 3 && !states.areAll)
        #expect((0..<7).map(states.stretch) == [0, 0, 0, 1, 1, 1, 2])
        let scores = RolloutScores(final: [9], lookahead: [[1], [2], [3]])
        #expect((0...7).map { states.scores(scores, at: $0)?[0] } == [1, nil, nil, 2, nil, nil, 3, 9])
        let all = FlowStates(transitions: 3, spacing: 1)
        #expect(all.predicted == [0, 1, 2] && all.stretches == 3 && all.areAll)
        let ends = FlowStates(transitions: 3, spacing: 50)
        #expect(ends.predicted == [0] && ends.stretches == 1 && (0..<3).map(ends.stretch) == [0, 0, 0])
        let end = FlowStates(transitions: 3, spacing: nil)
        #expect(end.predicted == [] && end.stretches == 1)
    }

    /// A trainer whose first epoch is scored.
    private func sampled(
        _ index: Int = 0, _ change: @escaping (inout TrainingConfiguration) -> Void
    ) throws -> (Trainer, ScoredEpoch) {
        let configuration = smallConfiguration {
            ($0.unetRegularization, $0.beta) = (0.5, 3)
            change(&$0)
        }
        let trainer = try trainer(configuration, folders[index])
        try trainer.rollOut()
        try trainer.score()
        return (trainer, try scoredEpoch(trainer))
    }

    private static let balanced: [(AlgorithmName, Int)] = [(.dagTB, 1), (.dagSubTB, 1), (.dagSubTB, 3), (.dagDB, 3), (.dagKL, 3)]

    /// The step from many small passes is the step from one graph over all transitions, with the weights of
    /// the rollout and with others. With a flow at every third state, three of the four transitions are a
    /// stretch.
    @Test(.slow, arguments: balanced, [0, 1])
    func theWholeGraphGivesTheSameStep(balanced: (algorithm: AlgorithmName, flowEvery: Int), update: Int) throws {
        let algorithm = balanced.algorithm
        func change(_ rows: Int) -> (inout TrainingConfiguration) -> Void {
            {
                ($0.algorithm, $0.flowEvery, $0.maxRowsPerPass) = (algorithm, balanced.flowEvery, rows)
                ($0.clipRange, $0.klCoefficient) = (1, 2)
            }
        }
        let (trainer, epoch) = try sampled(0, change(16))
        let (naive, _) = try sampled(1, change(1024))
        if update > 0 {
            for each in [trainer, naive] { try each.update() }
        }
        let chosen = [0, 3, 5, 6]
        let sums = try trainer.learner.step(epoch, chosen, update: update, step: update)

        let learner = naive.learner
        let transitions = learner.kernel.transitions
        let batch = TransitionBatch(epoch, chosen, Array(0..<transitions), learner.model, learner.kernel)
        let guided = batch.denoise(guidance: naive.configuration.guidanceScale).guided
        let logForward = batch.logForward(guided)
        let flow = try #require(learner.algorithm.trainedFlow)
        let states = algorithm == .dagTB ? [0] : balanced.flowEvery == 1 ? [0, 1, 2, 3] : [0, 3]
        let rollout = epoch.rollout
        let context = epoch.conditioning?.prompts.rows(chosen)
        var logFlows = zip(states, rollout.scores.lookahead).map { state, scores in
            let times = learner.kernel.times(chosen.map { _ in state })
            return flow(rollout.states[state].rows(chosen), times: times, context: context) + Tensor(chosen.map { scores[$0] }) * 3
        }
        logFlows.append(Tensor(chosen.map { rollout.scores.final[$0] }) * 3)
        func column(_ tensor: Tensor, _ step: Int) -> Tensor { tensor.narrow(0, step * chosen.count, chosen.count) }
        let logBackward = batch.logBackward(.reward)
        /// The residual of the stretch between two states with a flow, by their places.
        func residual(_ from: Int, _ to: Int, _ logForward: Tensor) -> Tensor {
            let steps = states[from]..<(states + [transitions])[to]
            return steps.reduce(logFlows[from] - logFlows[to]) { $0 + column(logForward, $1) - column(logBackward, $1) }
        }
        let lambda = algorithm == .dagSubTB ? 0.9 : 0
        let balances = pairs(states.count, lambda).map { from, to, weight in
            guard algorithm == .dagKL, weight > 0 else { return residual(from, to, logForward).square() * weight }
            let residual = residual(from, to, logForward.detach())
            let advantage = Tensor(DetailedBalanceKL.advantages(try! residual.detach().array(Float.self).map { -$0 }))
            let ratio = (logForward - batch.logForwardAtRollout).exp()
            let surrogate = (states[from]..<(states + [transitions])[to]).map { step in
                Tensor.maximum(-advantage * column(ratio, step), -advantage * column(ratio, step).clamp(0, 2))
            }
            return (residual.square() + surrogate.dropFirst().reduce(surrogate[0], +) * 2) * weight
        }
        let balance = balances.dropFirst().reduce(balances[0], +)
        let regularization = (guided - batch.guidedAtRollout).square().mean()
        try (balance.mean() + regularization * 0.5).backward()
        let norm = try learner.policyOptimizer.clipGradients(maxNorm: 1)
        let flowNorm = try #require(learner.flowOptimizer).clipGradients(maxNorm: 1)
        try learner.policyOptimizer.step()
        try learner.flowOptimizer?.step()
        #expect(agree(sums.policyGradNorm, norm, within: 2e-3))
        #expect(agree(sums.flowGradNorm, flowNorm, within: 2e-3))
        let expected = try Double(balance.mean().item()) + Double(regularization.item()) * 0.5
        #expect(abs(sums.mean(sums.loss) - expected) < 1e-3 * abs(expected))
        #expect(try difference(trainer.weights().map(Double.init), naive.weights().map(Double.init)) < 2e-3)
    }

    /// Where a single stretch is left, detailed balance is trajectory balance, to the bit.
    @Test(arguments: [4, 50]) func oneStretchIsTrajectoryBalance(flowEvery: Int) throws {
        let (whole, _) = try sampled { $0.algorithm = .dagTB }
        let (stretch, _) = try sampled(1) { ($0.algorithm, $0.flowEvery) = (.dagDB, flowEvery) }
        for trainer in [whole, stretch] { for _ in 0..<2 { try trainer.update() } }
        #expect(try whole.weights() == stretch.weights())
    }

    /// Counts the states that a flow is evaluated at.
    private struct Counter: FlowNetwork {
        let flow: StateFlow
        let note: (Int) -> Void
        var parameters: [(name: String, tensor: Tensor)] { flow.parameters }
        func callAsFunction(_ x: Tensor, times: Tensor, context: Tensor?) -> Tensor {
            note(x.size(0))
            return flow(x, times: times, context: context)
        }
    }

    /// Predictions are decoded and scored, and flows evaluated, at the states with a flow alone.
    @Test(arguments: [(AlgorithmName.dagDB, 1), (.dagDB, 2), (.dagDB, 3), (.dagKL, 3), (.dagSubTB, 1), (.dagSubTB, 2), (.dagTB, 1)])
    func whatStatesCost(algorithm: AlgorithmName, flowEvery: Int) throws {
        let configuration = smallConfiguration {
            ($0.algorithm, $0.flowEvery, $0.gradientAccumulationSteps, $0.maxRowsPerPass) = (algorithm, flowEvery, 2, 1024)
        }
        let output = OutputFolder(folders[0].url.appendingPathComponent("run").path)
        try output.prepare()
        let model = try DiffusionPipeline(folder: tinySD, dtype: .float32, device: .cpu)
        nonisolated(unsafe) var (scored, evaluated) = (0, 0)
        let trainer = try Trainer(
            configuration, model: model, evaluator: brightness { scored += $0 }, prompts: PromptSet.load("tiny-sd"), output: output,
            makeFlow: { Counter(flow: try StateFlow($0, beside: model)) { evaluated += $0 } })
        try trainer.runEpoch()
        let trajectories = configuration.trajectoriesPerEpoch
        let states = algorithm == .dagTB ? 1 : [4, 2, 2][flowEvery - 1]
        #expect(model.work.decodes == trajectories * (states + 1) && scored == trajectories * (states + 1))
        // What is summed up over several transitions is summed up before the update.
        let sweeps = flowEvery == 1 && [.dagDB, .dagKL].contains(algorithm) ? 1 : 2
        #expect(evaluated == trajectories * states * sweeps)
        #expect(model.work.networkRows == trajectories * configuration.steps * 4 + 8 * 4 * 2)
    }

    /// The step of VarGrad is that of its definition, from one graph; a dropped trajectory has no part in it.
    @Test(.slow, arguments: [0, 1]) func varianceOfAGroup(update: Int) throws {
        func change(_ rows: Int) -> (inout TrainingConfiguration) -> Void {
            {
                ($0.algorithm, $0.imagesPerPrompt, $0.maxRowsPerPass) = (.dagVarGrad, 4, rows)
                ($0.trainBatchSize, $0.gradientAccumulationSteps) = (2, 2)
            }
        }
        let (trainer, whole) = try sampled(0, change(16))
        let (naive, _) = try sampled(1, change(1024))
        #expect(trainer.learner.flowOptimizer == nil && whole.rollout.scores.lookahead.isEmpty)
        #expect(trainer.model.work.decodes == 8)
        if update > 0 {
            for each in [trainer, naive] { try each.update() }
        }
        var rollout = whole.rollout
        rollout.scores.final[6] = .nan
        let epoch = ScoredEpoch(index: 0, rollout: rollout, conditioning: whole.conditioning)
        #expect(Set(rollout.prompts[0..<4]).count == 1 && rollout.prompts[0] != rollout.prompts[4])
        // Groups of two images and of three, one of which has no score; each is spread over two passes.
        let sums = try trainer.learner.step(epoch, [0, 4, 3, 5, 6], update: update, step: update)

        let learner = naive.learner
        let transitions = learner.kernel.transitions
        let scored = [0, 3, 4, 5]
        let batch = TransitionBatch(epoch, scored, Array(0..<transitions), learner.model, learner.kernel)
        let guided = batch.denoise(guidance: naive.configuration.guidanceScale).guided
        let ratios = (batch.logForward(guided) - batch.logBackward(.reward)).reshape([transitions, 4]).sum([0])
        let noise = (rollout.states[0].rows(scored).square() * -0.5 - 0.5 * log(2 * .pi)).mean([1, 2, 3])
        let balances = noise + ratios - Tensor(scored.map { rollout.scores.final[$0] }) * 3
        let others = Tensor.cat([1, 0, 3, 2].map { balances.narrow(0, $0, 1) }, 0).detach()
        let loss = (balances - others).square().mean()
        let regularization = (guided - batch.guidedAtRollout).square().mean()
        try (loss + regularization * 0.5).backward()
        let norm = try learner.policyOptimizer.clipGradients(maxNorm: 1)
        #expect(agree(sums.policyGradNorm, norm, within: 2e-3))
        let expected = try Double(loss.item()) + Double(regularization.item()) * 0.5
        #expect(abs(sums.mean(sums.loss) - expected) < 1e-3 * expected)
        #expect(sums.loss.count == 16 && sums.droppedTransitions == 4)
    }

    /// A trajectory whose prediction has no score at one state has no part in the update.
    @Test(arguments: [AlgorithmName.dagDB, .dagKL]) func aStretchWithoutAScoreIsDropped(algorithm: AlgorithmName) throws {
        let (trainer, epoch) = try sampled { ($0.algorithm, $0.flowEvery, $0.maxRowsPerPass) = (algorithm, 3, 16) }
        let (other, _) = try sampled(1) { ($0.algorithm, $0.flowEvery, $0.maxRowsPerPass) = (algorithm, 3, 16) }
        // As `RolloutScores` has it where the second prediction of trajectory 2 has no score.
        var rollout = epoch.rollout
        rollout.scores.lookahead[1][2] = .nan
        rollout.scores.final[2] = .nan
        let gap = ScoredEpoch(index: 0, rollout: rollout, conditioning: epoch.conditioning)
        let with = try trainer.learner.step(gap, [0, 1, 2, 3])
        let without = try other.learner.step(epoch, [0, 1, 3])
        #expect(with.droppedTransitions == 4 && with.loss.count == 12)
        #expect(abs(with.mean(with.loss) - without.mean(without.loss)) < 1e-4 * abs(without.mean(without.loss)) + 1e-6)
        #expect(try agree(with.policyGradNorm, #require(without.policyGradNorm), within: 1e-3))
        #expect(agree(with.flowGradNorm, without.flowGradNorm, within: 1e-3))
    }

    /// Sub-trajectories of one transition alone are detailed balance.
    @Test func shortSubTrajectoriesAreDetailedBalance() throws {
        let (short, epoch) = try sampled { ($0.algorithm, $0.subtbLambda) = (.dagSubTB, 1e-6) }
        let (detailed, _) = try sampled(1) { $0.algorithm = .dagDB }
        let a = try short.learner.step(epoch, [0, 1, 2, 3])
        let b = try detailed.learner.step(epoch, [0, 1, 2, 3])
        #expect(abs(a.mean(a.loss) - b.mean(b.loss)) < 1e-4 * b.mean(b.loss))
        #expect(try agree(a.policyGradNorm, #require(b.policyGradNorm), within: 1e-3))
        #expect(agree(a.flowGradNorm, b.flowGradNorm, within: 1e-3))
    }

    /// The pretrained model's density, taken during the rollout, is the model's own as long as nothing is
    /// learned, and stays it.
    @Test func theReferenceIsThePretrainedModel() throws {
        let (trainer, epoch) = try sampled { ($0.target, $0.algorithm) = (.anchored, .dagDB) }
        func largest(_ rollout: Rollout) throws -> Float {
            try zip(rollout.logReference, rollout.logForward).flatMap { try ($0 - $1).abs().array(Float.self) }.max() ?? .infinity
        }
        let rollout = epoch.rollout
        #expect(rollout.logReference.count == trainer.learner.kernel.transitions && rollout.logReference.count == rollout.logForward.count)
        #expect(try largest(rollout) < 1e-5)
        for _ in 0..<trainer.configuration.updatesPerEpoch { try trainer.update() }
        try trainer.rollOut()
        try trainer.score()
        #expect(try largest(try #require(trainer.rollout)) > 1e-5)
    }

    /// A checkpoint in the middle of an epoch holds all that these algorithms need.
    @Test(.slow, arguments: [(AlgorithmName.dagSubTB, 1), (.dagTB, 1), (.dagKL, 3), (.dagVarGrad, 1)])
    func resumingIsBitExact(algorithm: AlgorithmName, flowEvery: Int) throws {
        let configuration = smallConfiguration {
            ($0.algorithm, $0.flowEvery, $0.imagesPerPrompt) = (algorithm, flowEvery, 2)
            $0.target = .anchored
            $0.epochs = 2
        }
        let (whole, interrupted) = (try TemporaryFolder(), try TemporaryFolder())
        let straight = try trainer(configuration, whole)
        try straight.run()
        let stopped = try trainer(configuration, interrupted)
        try stopped.rollOut()
        try stopped.score()
        try stopped.update()
        try stopped.save()
        let continued = try trainer(configuration, interrupted)
        try continued.resume(from: OutputFolder(interrupted.url.appendingPathComponent("run").path))
        try continued.run()
        #expect(try continued.weights() == straight.weights())
    }
}
