import TestSupport
import Testing

@testable import DAGCore

/// Updates on a share of each trajectory's transitions.
@Suite struct TimestepFractionTests {
    private let folder = try? TemporaryFolder()

    /// Each step is chosen as often as any other, whatever the share.
    @Test(arguments: [(0.25, 5), (0.5, 10), (0.35, 7), (0.9, 18), (0.01, 1), (1, 20)]) func theChoiceIsEven(fraction: Double, count: Int)
        throws
    {
        let learner = try learner(smallConfiguration { ($0.steps, $0.timestepFraction) = (20, fraction) })
        #expect(learner.transitionsPerTrajectory == count)
        var times = [Int](repeating: 0, count: 20)
        var choices: Set<[Int]> = []
        for group in 0..<4000 {
            let steps = learner.steps(of: [group, 1, 2], epoch: 3)
            #expect(steps.count == count && Set(steps).sorted() == steps)
            for step in steps { times[step] += 1 }
            choices.insert(steps)
        }
        // Five deviations of a binomial share.
        let share = Double(count) / 20
        let bound = 5 * (4000 * share * (1 - share)).squareRoot()
        for time in times { #expect(abs(Double(time) - 4000 * share) <= bound, "\(times)") }
        #expect(choices.count > 1 || count == 20)
    }

    /// Two groups that share out the steps have together the loss of all of them, and each takes half of the
    /// rows.
    @Test(arguments: [AlgorithmName.dagDB, .dagKL, .ddpo]) func halvesAreTheWhole(algorithm: AlgorithmName) throws {
        func change(_ fraction: Double) -> (inout TrainingConfiguration) -> Void {
            { ($0.algorithm, $0.timestepFraction, $0.clipRange, $0.maxRowsPerPass) = (algorithm, fraction, 1, 16) }
        }
        let trainer = try trainer(smallConfiguration(change(0.5)), #require(folder))
        try trainer.rollOut()
        try trainer.score()
        let epoch = try scoredEpoch(trainer)
        // The order of a group decides on its steps.
        let orders = [0, 3, 5, 6].map { first in [first] + [0, 3, 5, 6].filter { $0 != first } }
        let halves = [[0, 2], [1, 3]].compactMap { steps in orders.first { trainer.learner.steps(of: $0, epoch: 0) == steps } }
        #expect(halves.count == 2)
        func loss(_ fraction: Double, _ group: [Int]) throws -> (loss: Double, norm: Double?, count: Int, rows: Int) {
            let learner = try learner(smallConfiguration(change(fraction)))
            _ = learner.algorithm.prepareEpoch(scores: epoch.rollout.scores.final, prompts: epoch.rollout.prompts)
            let sums = try learner.step(epoch, group)
            return (sums.mean(sums.loss), sums.policyGradNorm, sums.loss.count, learner.model.work.networkRows)
        }
        let whole = try loss(1, orders[0])
        let parts = try halves.map { try loss(0.5, $0) }
        #expect(abs(whole.loss - (parts[0].loss + parts[1].loss) / 2) < 1e-5 * (1 + abs(whole.loss)))
        #expect(parts[0].norm != parts[1].norm)
        #expect(whole.count == 16 && whole.rows == 32)
        #expect(parts.allSatisfy { $0.count == 8 && $0.rows == 16 })
    }
}
