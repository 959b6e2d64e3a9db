import Foundation
import Rewards
import Support
import Tensors
import TestSupport
import Testing

@testable import DAGCore

/// Trajectories that a reward cannot score, and rewards that are normalised.
@Suite struct FailurePolicyTests {
    /// Brightness, but no score for sample `failing` (never, if nil) of an epoch, at the end or everywhere
    /// along its way.
    private func evaluator(
        failing: UInt64? = nil, policy: RewardSpecification.FailurePolicy = .drop, normalize: Bool = false, alwaysFails: Bool = false
    ) throws -> RewardEvaluator {
        let reward = CallbackReward(name: "picky") { batch in
            (0..<batch.count).map { k in
                if alwaysFails || batch.sampleIDs[k] == failing { return .nan }
                return brightness(batch, k)
            }
        }
        var specification = RewardSpecification(library: "picky")
        (specification.onFailure, specification.normalize) = (policy, normalize)
        return try RewardEvaluator([(specification, reward)])
    }

    /// An update with a dropped trajectory is the update without it.
    @Test(.slow, arguments: [AlgorithmName.dagDB, .dagKL, .ddpo], [ForwardLooking.rollout, .current])
    func droppedTrajectoriesHaveNoPart(algorithm: AlgorithmName, forwardLooking: ForwardLooking) throws {
        let folder = try TemporaryFolder()
        let configuration = smallConfiguration {
            $0.algorithm = algorithm
            $0.forwardLooking = forwardLooking
            $0.maxRowsPerPass = 16
        }
        let trainer = try DAGCoreTests.trainer(configuration, folder, evaluator: evaluator(failing: 2))
        try trainer.rollOut()
        try trainer.score()
        let epoch = try scoredEpoch(trainer)
        #expect(epoch.rollout.scores.dropped == 1 && epoch.rollout.scores.final[2].isNaN)
        let with = try trainer.learner.step(epoch, [0, 1, 2, 3])

        let other = try DAGCoreTests.trainer(configuration, try TemporaryFolder(), evaluator: evaluator())
        (other.learner.algorithm as? DDPO)?.state = (trainer.learner.algorithm as? DDPO)?.state ?? DDPO.State()
        var whole = epoch.rollout
        whole.scores.final[2] = 0
        let without = try other.learner.step(
            ScoredEpoch(index: 0, rollout: whole, conditioning: epoch.conditioning), [0, 1, 3])
        #expect(with.loss.count == without.loss.count && with.mean(with.loss).isFinite)
        #expect(abs(with.mean(with.loss) - without.mean(without.loss)) < 1e-4 * abs(without.mean(without.loss)) + 1e-6)
        #expect(try agree(with.policyGradNorm, #require(without.policyGradNorm), within: 1e-3))
        #expect(agree(with.flowGradNorm, without.flowGradNorm, within: 1e-3))
    }

    /// Predicted data that has no score when it is asked for during the update: its transitions have no part,
    /// in sum or mean.
    @Test(arguments: [AlgorithmName.dagDB, .dagKL]) func predictedDataWithoutScores(algorithm: AlgorithmName) throws {
        final class Counter: @unchecked Sendable { var calls = 0 }
        let counter = Counter()
        let moody = CallbackReward(name: "moody") { batch in
            counter.calls += 1
            return (0..<batch.count).map { k in
                if counter.calls > 1, batch.sampleIDs[k] == 2 { return .nan }
                return brightness(batch, k)
            }
        }
        var specification = RewardSpecification(library: "moody")
        specification.onFailure = .drop
        let configuration = smallConfiguration {
            $0.algorithm = algorithm
            $0.forwardLooking = .current
            $0.maxRowsPerPass = 16
        }
        let trainer = try trainer(configuration, TemporaryFolder(), evaluator: RewardEvaluator([(specification, moody)]))
        var warnings: [String] = []
        trainer.monitor.onWarning = { warnings.append($0) }
        try trainer.rollOut()
        try trainer.score()
        let epoch = try scoredEpoch(trainer)
        #expect(epoch.rollout.scores.dropped == 0 && counter.calls == 1)
        let with = try trainer.learner.step(epoch, [0, 1, 2, 3])
        #expect(with.droppedTransitions == 4 && with.loss.count == 12)
        #expect(warnings.count == 1)
        #expect(warnings[0].hasPrefix("step 0: 4 of 16 transitions were dropped: reward moody cannot score sample 2"))

        let other = try DAGCoreTests.trainer(configuration, TemporaryFolder(), evaluator: evaluator())
        let without = try other.learner.step(epoch, [0, 1, 3])
        #expect(with.loss.count == without.loss.count)
        #expect(abs(with.mean(with.loss) - without.mean(without.loss)) < 1e-4 * abs(without.mean(without.loss)) + 1e-6)
        #expect(try agree(with.policyGradNorm, #require(without.policyGradNorm), within: 1e-3))
        #expect(agree(with.flowGradNorm, without.flowGradNorm, within: 1e-3))
    }

    @Test func metricsAndWarningsTell() throws {
        let folder = try TemporaryFolder()
        let trainer = try trainer(smallConfiguration { $0.epochs = 1 }, folder, evaluator: evaluator(failing: 5))
        var (warnings, dropped) = ([String](), [Int]())
        trainer.monitor.onWarning = { warnings.append($0) }
        trainer.onStep = { dropped.append($0.dropped) }
        try trainer.run()
        #expect(
            warnings == [
                "epoch 0: 1 of 8 trajectories were dropped: reward picky cannot score sample 5: nan as score; scores must be finite"
            ])
        #expect(dropped == [1, 1])
        let lines = try String(contentsOf: folder.url.appendingPathComponent("run/metrics.jsonl"), encoding: .utf8)
        #expect(lines.contains(#""dropped":1"#) && lines.contains(#""imputed":0"#))
        let warning = try JSONSerialization.jsonObject(with: Data(lines.prefix { $0 != "\n" }.utf8)) as? [String: Any]
        #expect(warning?["warning"] as? String == warnings[0] && warning?["epoch"] as? Int == 0)
    }

    @Test func imputedScoresAreCounted() throws {
        let folder = try TemporaryFolder()
        let trainer = try trainer(smallConfiguration { $0.epochs = 1 }, folder, evaluator: evaluator(failing: 5, policy: .impute(0)))
        var imputed = 0
        trainer.onStep = { imputed = $0.imputed }
        try trainer.run()
        // The image at the end, and the predictions at four states before it.
        #expect(imputed == 5)
    }

    @Test func nothingLeftIsAnError() throws {
        let folder = try TemporaryFolder()
        let trainer = try trainer(smallConfiguration(), folder, evaluator: evaluator(alwaysFails: true))
        let error = #expect(throws: TrainingError.self) { try trainer.run() }
        #expect(error?.description.contains("all 8 trajectories of epoch 0 were dropped: reward picky") == true)
    }

    /// A score of 1e30 is refused by name where it would be squared, and trained on where it is only compared.
    @Test(arguments: [AlgorithmName.dagDB, .ddpo]) func scoresThatAreTooLarge(algorithm: AlgorithmName) throws {
        let folder = try TemporaryFolder()
        let huge = CallbackReward(name: "huge") { batch in batch.sampleIDs.map { $0 == 3 ? 1e30 : 0.5 } }
        var run = try TrainingRun(
            smallConfiguration { ($0.algorithm, $0.rewardPlugin, $0.steps) = (algorithm, [], 2) },
            output: OutputFolder(folder.url.appendingPathComponent("run").path))
        let trainer = try run.prepare(rewards: [(RewardSpecification(library: "huge"), huge)])
        var steps: [StepMetrics] = []
        trainer.onStep = { steps.append($0) }
        if algorithm == .ddpo {
            try trainer.runEpoch()
            #expect(steps.allSatisfy { $0.policyGradNorm ?? 0 > 0 && abs($0.rewardStd / 1e30 - 0.125.squareRoot()) < 1e-6 }, "\(steps)")
        } else {
            let error = #expect(throws: RewardError.self) { try trainer.runEpoch() }
            let text = "reward huge cannot score sample 3: 1e+30 as score is too large for float32 with weight 1 and beta 10"
            #expect(error?.description.hasPrefix(text) == true)
        }
    }

    /// The statistics of normalised rewards and the dropped trajectories come back with a checkpoint, also in
    /// the middle of an epoch.
    @Test(.slow) func resumingIsBitExact() throws {
        let configuration = smallConfiguration { $0.epochs = 3 }
        func make(_ folder: TemporaryFolder) throws -> Trainer {
            try trainer(configuration, folder, evaluator: evaluator(failing: 9, normalize: true))
        }
        let whole = try TemporaryFolder()
        let straight = try make(whole)
        try straight.run()
        let interrupted = try TemporaryFolder()
        let stopped = try make(interrupted)
        stopped.onStep = { if $0.step == 2 { stopped.monitor.cancel() } }
        #expect(throws: Cancelled.self) { try stopped.run() }
        let continued = try make(interrupted)
        try continued.resume(from: OutputFolder(interrupted.url.appendingPathComponent("run").path))
        #expect(continued.state.update == 1)
        try continued.run()
        #expect(try continued.weights() == straight.weights())
        #expect(continued.collector.evaluator.normalization == straight.collector.evaluator.normalization)
    }
}
