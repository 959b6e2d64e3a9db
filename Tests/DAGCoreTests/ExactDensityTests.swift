import AnalyticWorld
import Foundation
import Tensors
import Testing

@testable import DAGCore

/// The trainer on a world whose target is known: see Benchmarks/AnalyticWorld, and Benchmarks/ExactDensity for longer runs.
@Suite struct ExactDensityTests {
    private let samples = 8192
    private let world = AnalyticWorld()

    /// On one thread: the networks are too small for more.
    private func alone<Value>(_ body: () throws -> Value) rethrows -> Value {
        let before = Torch.threads
        Torch.threads = 1
        defer { Torch.threads = before }
        return try body()
    }

    /// Before anything is learned the sampler draws the pretrained model, whose density is known: kernels and schedule are right.
    @Test func theBaseIsSampledExactly() throws {
        try alone {
            let trainer = try world.trainer(world.configuration { $0.steps = 100 }, folder: TemporaryFolder().url)
            let truth = world.target(beta: 0, anchored: true)
            let found = try world.histogram(trainer, samples: samples)
            #expect(AnalyticWorld.totalVariation(found, truth) < AnalyticWorld.noise(truth, samples: samples) + 0.05)
        }
    }

    /// Trajectory balance finds how much of the whole belongs to each mode, which the pretrained model has equally, for both targets. The
    /// ten steps are too few for the shape of the modes, and enough for their weights.
    @Test(arguments: [Target.reward, .anchored]) func modesGetTheirShares(target: Target) throws {
        try alone {
            let configuration = world.configuration {
                ($0.algorithm, $0.target, $0.steps, $0.epochs) = (.dagTB, target, 10, 80)
                ($0.learningRate, $0.flowLearningRate) = (1e-3, 3e-3)
            }
            let trainer = try world.trainer(configuration, folder: TemporaryFolder().url)
            let truth = AnalyticWorld.quadrants(world.target(beta: 1, anchored: target == .anchored))
            func distance() throws -> Double {
                AnalyticWorld.totalVariation(AnalyticWorld.quadrants(try world.histogram(trainer, samples: samples)), truth)
            }
            #expect(try distance() > 0.17)
            try trainer.run()
            #expect(try distance() < 0.1)
        }
    }
}
