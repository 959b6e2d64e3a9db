import AnalyticWorld
import Foundation
import Tensors
import TestSupport
import Testing

@testable import DAGCore

/// The trainer on a world whose target is known: see Tests/AnalyticWorld, and Benchmarks/ExactDensity for
/// longer runs.
@Suite struct ExactDensityTests {
    private let samples = 8192

    /// On one thread: the networks are too small for more.
    private func alone<Value>(_ body: () throws -> Value) rethrows -> Value {
        let before = Torch.threads
        Torch.threads = 1
        defer { Torch.threads = before }
        return try body()
    }

    /// Before anything is learned the sampler draws the pretrained model, whose density is known: kernels and
    /// schedule are right.
    @Test func theBaseIsSampledExactly() throws {
        try alone {
            let (folder, world) = (try TemporaryFolder(), AnalyticWorld(.reward))
            let trainer = try world.trainer(world.configuration { $0.steps = 100 }, folder: folder.url)
            let truth = world.baseDensity
            let found = AnalyticWorld.histogram(try world.levels(trainer, samples: samples))
            #expect(AnalyticWorld.totalVariation(found, truth) < AnalyticWorld.noise(truth, samples: samples) + 0.04)
        }
    }

    /// A model whose data are the target's is in balance: sums over trajectories vanish up to the error of
    /// 100 steps.
    ///
    /// With a wrong sign, deviation or factor anywhere in the kernels, a flow that is missing, or another
    /// weight of the reward it is not.
    @Test(.slow) func theTargetsOwnDiffusionBalances() throws {
        try alone {
            let (folder, world) = (try TemporaryFolder(), AnalyticWorld(.reward))
            let configuration = world.configuration {
                $0.algorithm = .dagTB
                $0.steps = 100
                $0.epochs = 30
                $0.learningRate = 1e-9
                $0.flowLearningRate = 1e-2
            }
            let trainer = try world.trainer(configuration, folder: folder.url, pretrained: world.reward)
            var losses: [Double] = []
            trainer.onStep = { losses.append($0.loss) }
            try trainer.run()
            #expect(losses.suffix(8).reduce(0, +) / 8 < 1.8)
        }
    }

    /// Trajectory balance, with a flow network or without, finds how much of the whole belongs to each mode,
    /// which the pretrained model has equally, for both targets.
    @Test(.slow, arguments: [AlgorithmName.dagTB, .dagVarGrad], [Target.reward, .anchored])
    func modesGetTheirShares(algorithm: AlgorithmName, target: Target) throws {
        try alone {
            let (folder, world) = (try TemporaryFolder(), AnalyticWorld(target))
            let configuration = world.configuration {
                $0.algorithm = algorithm
                $0.steps = 25
                $0.epochs = 60
                $0.learningRate = 1e-3
            }
            let trainer = try world.trainer(configuration, folder: folder.url)
            let base = try world.levels(trainer, samples: samples)
            let truth = AnalyticWorld.shares(world.truth(beta: 1, pretrained: base))
            func distance() throws -> Double {
                let found = AnalyticWorld.histogram(try world.levels(trainer, samples: samples))
                return AnalyticWorld.totalVariation(AnalyticWorld.shares(found), truth)
            }
            #expect(try distance() > 0.2)
            try trainer.run()
            #expect(try distance() < 0.1)
        }
    }
}
