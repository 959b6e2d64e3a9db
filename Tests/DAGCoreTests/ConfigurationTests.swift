import Foundation
import TestSupport
import Testing
import Yams

@testable import DAGCore

@Suite struct ConfigurationTests {
    private func file(_ text: String) throws -> (TemporaryFolder, String) {
        let folder = try TemporaryFolder()
        let path = folder.url.appendingPathComponent("run.yaml").path
        try Data(text.utf8).write(to: URL(fileURLWithPath: path))
        return (folder, path)
    }

    @Test func flagsWinOverTheFileAndTheFileOverTheDefaults() throws {
        let (folder, path) = try file("model: a\nbeta: 5\nreward_plugin: libx.so\nalgorithm: dag-kl\n")
        let resolved = try TrainingConfiguration.resolve(file: path, overrides: ["beta": Node("7"), "steps": Node("10")])
        withExtendedLifetime(folder) {}
        #expect(resolved.model == "a" && resolved.beta == 7 && resolved.steps == 10 && resolved.algorithm == .dagKL)
        #expect(resolved.rewardPlugin == ["libx.so"])
        #expect(resolved.sampleBatchSize == 16 && resolved.learningRate == 3e-4 && resolved.seed == 0)
    }

    @Test func yamlRoundTrip() throws {
        var c = TrainingConfiguration()
        (c.model, c.rewardPlugin, c.seed, c.beta) = ("m", ["liba.so,weight=2", "b"], .max, 0.1)
        let (folder, path) = try file(c.yaml())
        #expect(try TrainingConfiguration.resolve(file: path) == c)
        withExtendedLifetime(folder) {}
    }

    @Test(arguments: [
        ("bta: 5\n", "unknown key 'bta'"), ("beta: much\n", "beta"), ("algorithm: grpo\n", "algorithm"), ("- a\n", "mapping"),
        ("beta: [1\n", "run.yaml"), ("steps: 2.5\n", "steps"),
    ])
    func badFiles(text: String, culprit: String) throws {
        let (folder, path) = try file(text)
        let error = #expect(throws: ConfigurationError.self) { try TrainingConfiguration.resolve(file: path) }
        withExtendedLifetime(folder) {}
        #expect(error?.description.contains(culprit) == true && error?.description.contains("\n") == false, "\(error?.description ?? "")")
    }

    @Test func badValuesNameTheirFlag() {
        let cases: [(String, (inout TrainingConfiguration) -> Void)] = [
            ("--model", { $0.model = "" }), ("--epochs", { $0.epochs = 0 }),
            ("--eta", { $0.eta = 0 }), ("--beta", { $0.beta = -1 }), ("--learning-rate", { $0.learningRate = .nan }),
            ("does not divide", { $0.trainBatchSize = 3 }), ("--train-batch-size", { ($0.algorithm, $0.trainBatchSize) = (.dagKL, 2) }),
        ]
        for (culprit, change) in cases {
            let error = #expect(throws: ConfigurationError.self) { try smallConfiguration(change).check() }
            #expect(error?.description.contains(culprit) == true)
        }
    }

    @Test func aRunKeepsWhatItsCheckpointDependsOn() throws {
        let old = smallConfiguration()
        try smallConfiguration { ($0.epochs, $0.learningRate, $0.sampleEvery) = (9, 1e-4, 2) }.check(continuing: old)
        let error = #expect(throws: ConfigurationError.self) { try smallConfiguration { $0.steps = 5 }.check(continuing: old) }
        #expect(error?.description.contains("steps was 4") == true)
    }

    @Test func betaGrowsOverTheFirstHalf() {
        let c = smallConfiguration { ($0.beta, $0.betaAnnealing, $0.epochs) = (100, 0.5, 8) }
        #expect((0..<8).map(c.beta(epoch:)) == [0, 25, 50, 75, 100, 100, 100, 100])
    }
}
