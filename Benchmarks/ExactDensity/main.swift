import AnalyticWorld
import ArgumentParser
import DAGCore
import Foundation
import Tensors

/// Trains every objective on a world whose target is known, and prints how far each ends from it.
struct ExactDensity: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "exact-density",
        abstract: "Total variation between what is sampled after training and the exact target, per objective.")

    @Option(help: "dag-db, dag-kl, dag-tb, dag-subtb, ddpo; all if none is named.") var algorithm: [Algorithm] = []
    @Option(help: "reward or anchored.") var target = Target.reward
    @Option var epochs = 300
    @Option var samples = 20_000
    @Option var steps = 50
    @Option var beta = 1.0
    @Option var seed: [UInt64] = [0, 1, 2]
    @Option(help: "Epochs between measurements.") var every = 100
    @Option(help: "key=value: a setting of the training, as in dag-train's YAML files.") var set: [String] = []

    func run() throws {
        Torch.threads = 1  // the networks are too small for more
        let world = AnalyticWorld()
        let truth = world.target(beta: beta, anchored: target == .anchored)
        print(
            String(format: "of the target's own samples: total variation %.3f; quadrants", AnalyticWorld.noise(truth, samples: samples)),
            shares(truth))
        for algorithm in algorithm.isEmpty ? Algorithm.allCases.filter({ $0 != .ddpo || target == .reward }) : algorithm {
            for seed in seed {
                let folder = FileManager.default.temporaryDirectory.appendingPathComponent("exact-density-\(UUID())")
                defer { try? FileManager.default.removeItem(at: folder) }
                let configuration = world.configuration {
                    ($0.algorithm, $0.epochs, $0.seed, $0.target, $0.beta) = (algorithm, epochs, seed, target, beta)
                    $0.steps = steps
                }
                let trainer = try world.trainer(
                    TrainingConfiguration.resolve(
                        base: configuration, text: set.map { $0.replacing("=", with: ": ", maxReplacements: 1) }.joined(separator: "\n")),
                    folder: folder)
                var line = "\(algorithm.rawValue) seed \(seed):"
                for epoch in 0...epochs {
                    if epoch % every == 0 || epoch == epochs {
                        let found = try world.histogram(trainer, samples: samples)
                        line += String(format: " %d: %.3f", epoch, AnalyticWorld.totalVariation(found, truth))
                        if epoch == epochs { line += "; quadrants " + shares(found) }
                    }
                    if epoch < epochs { try trainer.runEpoch() }
                }
                FileHandle.standardOutput.write(Data((line + "\n").utf8))
            }
        }
    }

    private func shares(_ histogram: [Double]) -> String {
        AnalyticWorld.quadrants(histogram).map { String(format: "%.2f", $0) }.joined(separator: " ")
    }
}

extension Algorithm: ExpressibleByArgument {}
extension Target: ExpressibleByArgument {}

ExactDensity.main()
