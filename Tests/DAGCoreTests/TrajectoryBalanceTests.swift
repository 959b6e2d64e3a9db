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
    private func loss(_ residuals: [Double], lambda: Double?) -> Double {
        let count = residuals.count
        func square(_ i: Int, _ j: Int) -> Double { pow(residuals[i..<j].reduce(0, +), 2) }
        guard let lambda else { return square(0, count) }
        let pairs = (0..<count).flatMap { i in (i + 1...count).map { (i, $0) } }
        let total = pairs.reduce(0) { $0 + pow(lambda, Double($1.1 - $1.0)) }
        return pairs.reduce(0) { $0 + pow(lambda, Double($1.1 - $1.0)) / total * square($1.0, $1.1) }
    }

    @Test(arguments: [nil, 0.3, 0.9, 1.0]) func lossAndSlopes(lambda: Double?) {
        let residuals = [0.5, -1.25, 2, 0.125, -0.75, 1.5]
        let (value, slopes) = TrajectoryBalance.balance(residuals.map(Float.init), lambda: lambda)
        #expect(abs(Double(value) - loss(residuals, lambda: lambda)) < 1e-5)
        for t in residuals.indices {
            func moved(_ by: Double) -> Double {
                var changed = residuals
                changed[t] += by
                return loss(changed, lambda: lambda)
            }
            let slope = (moved(1e-4) - moved(-1e-4)) / 2e-4 * Double(residuals.count)
            #expect(abs(Double(slopes[t]) - slope) < 1e-3, "\(t)")
        }
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

    /// The step from many small passes is the step from one graph over all transitions, with the weights of
    /// the rollout and with others.
    @Test(.slow, arguments: [AlgorithmName.dagTB, .dagSubTB], [0, 1]) func theWholeGraphGivesTheSameStep(
        algorithm: AlgorithmName, update: Int
    )
        throws
    {
        let (trainer, epoch) = try sampled { ($0.algorithm, $0.maxRowsPerPass) = (algorithm, 16) }
        let (naive, _) = try sampled(1) { ($0.algorithm, $0.maxRowsPerPass) = (algorithm, 1024) }
        if update > 0 {
            for each in [trainer, naive] { try each.update() }
        }
        let chosen = [0, 3, 5, 6]
        let sums = try trainer.learner.step(epoch, chosen, update: update, step: update)

        let learner = naive.learner
        let transitions = learner.kernel.transitions
        let batch = TransitionBatch(epoch, chosen, 0..<transitions, learner.model, learner.kernel)
        let guided = batch.denoise(guidance: naive.configuration.guidanceScale).guided
        let all = learner.transitions(
            batch, epoch, scores: batch.lookaheadAtRollout + [batch.scoresAtEnd], logForward: batch.logForward(guided))
        let flow = try #require(learner.algorithm.trainedFlow)
        let residuals = all.residual(flow, logForward: all.logForward).reshape([transitions, chosen.count])
        let regularization = (guided - batch.guidedAtRollout).square().mean()
        let pairs =
            algorithm == .dagTB ? [(0, transitions)] : (0..<transitions).flatMap { i in (i + 1...transitions).map { (i, $0) } }
        let weights = pairs.map { pow(0.9, Double($0.1 - $0.0)) }
        let squares = zip(pairs, weights).map { pair, weight in
            residuals.narrow(0, pair.0, pair.1 - pair.0).sum([0]).square() * (weight / weights.reduce(0, +))
        }
        let balance = squares.dropFirst().reduce(squares[0], +)
        try (balance.mean() + regularization * 0.5).backward()
        let norm = try learner.policyOptimizer.clipGradients(maxNorm: 1)
        let flowNorm = try #require(learner.flowOptimizer).clipGradients(maxNorm: 1)
        try learner.policyOptimizer.step()
        try learner.flowOptimizer?.step()
        #expect(abs(sums.policyGradNorm - norm) < 2e-3 * norm)
        #expect(abs(sums.flowGradNorm - flowNorm) < 2e-3 * flowNorm)
        let expected = try Double(balance.mean().item()) + Double(regularization.item()) * 0.5
        #expect(abs(sums.mean(sums.loss) - expected) < 1e-3 * expected)
        #expect(try difference(trainer.weights().map(Double.init), naive.weights().map(Double.init)) < 2e-3)
    }

    /// Sub-trajectories of one transition alone are detailed balance.
    @Test func shortSubTrajectoriesAreDetailedBalance() throws {
        let (short, epoch) = try sampled { ($0.algorithm, $0.subtbLambda) = (.dagSubTB, 1e-6) }
        let (detailed, _) = try sampled(1) { $0.algorithm = .dagDB }
        let a = try short.learner.step(epoch, [0, 1, 2, 3])
        let b = try detailed.learner.step(epoch, [0, 1, 2, 3])
        #expect(abs(a.mean(a.loss) - b.mean(b.loss)) < 1e-4 * b.mean(b.loss))
        #expect(abs(a.policyGradNorm - b.policyGradNorm) < 1e-3 * b.policyGradNorm)
        #expect(abs(a.flowGradNorm - b.flowGradNorm) < 1e-3 * b.flowGradNorm)
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
    @Test(.slow, arguments: [AlgorithmName.dagSubTB, .dagTB]) func resumingIsBitExact(algorithm: AlgorithmName) throws {
        let configuration = smallConfiguration {
            $0.algorithm = algorithm
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
