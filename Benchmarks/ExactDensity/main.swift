@testable import AnalyticWorld
import ArgumentParser
@testable import DAGCore
import Foundation
@testable import Tensors

/// Trains every objective on a world whose target is known, and says how far each ends from it.
struct ExactDensity: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "exact-density",
        abstract: "Total variation between what is sampled after training and the exact target, for each objective.")

    @Option(
        help: "dag-db, dag-kl, dag-tb, dag-subtb, dag-vargrad, dag-replay, dag-nabla, ddpo, grpo; without it all that reach the target.")
    var algorithm: [AlgorithmName] = []
    @Option(help: "reward or anchored.") var target = Target.reward
    @Option(help: "Epochs of 256 trajectories.") var epochs = 300
    @Option(help: "Pictures that are counted.") var samples = 20_000
    @Option(help: "Seeds of the runs.") var seed: [UInt64] = [0, 1, 2]
    @Option(help: "Epochs between measurements.") var every = 100
    @Option(help: "key=value: another setting of the training, as in dag-train's YAML files.") var set: [String] = []
    @Option(help: "Also write all measurements, with their histograms, to a new CSV file.") var output: String?

    private static let columns =
        ["algorithm", "target", "seed", "epoch", "trajectories", "total_variation", "share_0", "share_1", "share_2"]
        + (0..<AnalyticWorld.bins).map { "cell_\($0)" }

    func run() throws {
        Torch.threads = 1  // the networks are too small for more
        let world = AnalyticWorld(target)
        let base = try TrainingConfiguration.resolve(
            base: world.configuration { $0.epochs = epochs },
            text: set.isEmpty ? nil : set.map { $0.replacing("=", with: ": ", maxReplacements: 1) }.joined(separator: "\n"),
            source: "--set")
        let pretrained = try measured(world, base) { try world.levels($0, samples: 100_000, seed: 1 << 41) }
        let truth = world.truth(beta: base.beta, pretrained: pretrained)
        var table = [Self.columns.joined(separator: ",")]
        func record(_ name: String, seed: UInt64, epoch: Int, _ histogram: [Double]) -> String {
            let distance = AnalyticWorld.totalVariation(histogram, truth)
            let numbers = [distance] + AnalyticWorld.shares(histogram) + histogram
            table.append(
                ([name, target.rawValue, "\(seed)", "\(epoch)", "\(epoch * base.trajectoriesPerEpoch)"]
                    + numbers.map { String(format: "%.5f", $0) }).joined(separator: ","))
            return String(format: "%.3f", distance)
        }
        func show(_ name: String, _ distance: String, _ histogram: [Double]) {
            let shares = AnalyticWorld.shares(histogram).map { String(format: "%.2f", $0) }.joined(separator: " ")
            let line = name.padding(toLength: 44, withPad: " ", startingAt: 0) + distance + "   modes \(shares)\n"
            FileHandle.standardOutput.write(Data(line.utf8))
        }

        _ = record("target", seed: 0, epoch: 0, truth)
        show("as many samples of the target", String(format: "%.3f", AnalyticWorld.noise(truth, samples: samples)), truth)
        if target == .reward, base.beta == 1 {
            let ideal = try measured(world, base, pretrained: world.reward) {
                AnalyticWorld.histogram(try world.levels($0, samples: samples))
            }
            show("the target's own diffusion, \(base.steps) steps", record("ideal", seed: 0, epoch: 0, ideal), ideal)
        }
        for algorithm in algorithm.isEmpty ? AlgorithmName.allCases.filter({ $0.reaches(target) }) : algorithm {
            for seed in seed {
                var configuration = base
                (configuration.algorithm, configuration.seed) = (algorithm, seed)
                try measured(world, configuration) { trainer in
                    var (found, distances, isStopped) = ([Double](), [String](), false)
                    for epoch in 0...epochs {
                        if epoch % every == 0 || epoch == epochs {
                            found = AnalyticWorld.histogram(try world.levels(trainer, samples: samples))
                            distances.append(record(algorithm.rawValue, seed: seed, epoch: epoch, found))
                        }
                        guard epoch < epochs, !isStopped else { continue }
                        do { try trainer.runEpoch() } catch let error as TrainingError {
                            // What there is by then is what the objective has learned.
                            isStopped = true
                            let line = "\(algorithm.rawValue), seed \(seed): ended in epoch \(epoch): \(error)\n"
                            FileHandle.standardError.write(Data(line.utf8))
                        }
                    }
                    show("\(algorithm.rawValue), seed \(seed)", distances.joined(separator: " "), found)
                }
            }
        }
        if let output {
            try Data((table.joined(separator: "\n") + "\n").utf8).write(to: URL(fileURLWithPath: output), options: .withoutOverwriting)
        }
    }

    /// A trainer whose files are removed afterwards.
    private func measured<Value>(
        _ world: AnalyticWorld, _ configuration: TrainingConfiguration, pretrained: Mixture? = nil, _ body: (Trainer) throws -> Value
    ) throws -> Value {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("exact-density-\(UUID())")
        defer { try? FileManager.default.removeItem(at: folder) }
        return try body(world.trainer(configuration, folder: folder, pretrained: pretrained))
    }
}

extension AlgorithmName: @retroactive ExpressibleByArgument {}
extension Target: @retroactive ExpressibleByArgument {}

ExactDensity.main()
