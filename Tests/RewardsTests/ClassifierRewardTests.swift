import Foundation
import TestSupport
import Testing

@testable import Images
@testable import Rewards

/// `libcifar_classifier.so` against PyTorch: see `Tests/Goldens/rewards/make_resnet_goldens.py`.
@Suite struct ClassifierRewardTests {
    struct Case: Decodable, Sendable {
        let weights: String
        let height: Int
        let width: Int
        let logProbabilities: [[Float]]
    }

    /// Images of clothes, half of Fashion-MNIST's test split and half drawn by tiny-sd, with the shipped weights'
    /// log-probabilities.
    struct Fashion: Decodable {
        let pictures: Data
        let labels: [Int]
        let logProbabilities: [[Float]]

        static func load() throws -> Fashion {
            try JSONDecoder().decode(Fashion.self, from: Data(contentsOf: folder.appendingPathComponent("fashion.json")))
        }

        func batch() throws -> RewardBatch {
            let bytes = 32 * 32 * 3
            let pictures = labels.indices.map { Array(self.pictures[($0 * bytes)..<(($0 + 1) * bytes)]) }
            return try RewardFixture.batch(pictures, height: 32, width: 32)
        }
    }

    static let folder = repository.appendingPathComponent("Tests/Goldens/rewards")
    static let cases: [Case] = {
        let file = folder.appendingPathComponent("resnet.json")
        return (try? JSONDecoder().decode([Case].self, from: Data(contentsOf: file))) ?? []
    }()
    private static let items = ["tee", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"]

    /// Scores `[picture][objective]`.
    private static func scores(_ options: [String: String], _ batch: RewardBatch) throws -> [[Float]] {
        let reward = try RewardPlugin(RewardLibrary(path: RewardSpecification("cifar_classifier").locate().path), options: options)
        let values = try reward.score(batch).values, count = reward.objectives.count
        return (0..<batch.count).map { Array(values[($0 * count)..<(($0 + 1) * count)]) }
    }

    private static func picture(_ index: Int, height: Int, width: Int) -> [UInt8] {
        RewardFixture.picture(height: height, width: width) { y, x, channel in
            ((x * (3 + index) + y * (5 + channel)) ^ ((x * y) >> 2)) & 255
        }
    }

    @Test func describesItself() throws {
        let library = try RewardLibrary(path: RewardSpecification("cifar_classifier").locate().path)
        #expect(library.description.objectives.map(\.name).prefix(3) == ["log_probability", "entropy", "class_0"])
        #expect(library.description.objectives.count == 22)
        #expect(library.description.options.map(\.key) == ["weights", "classes", "threads"])
        #expect(library.description.threadMode == .perInstance && library.description.isDeterministic)
    }

    @Test func goldensAreThere() { #expect(Self.cases.count == 8) }

    /// Random networks, float32 and float16, of three channels and of one, on images that are resized or not.
    @Test(arguments: cases) func logProbabilitiesEqualPyTorchs(golden: Case) throws {
        let pictures = golden.logProbabilities.indices.map { Self.picture($0, height: golden.height, width: golden.width) }
        let options = ["weights": Self.folder.appendingPathComponent("\(golden.weights).safetensors").path, "classes": "c1+c3"]
        let batch = try RewardFixture.batch(pictures, height: golden.height, width: golden.width)
        for (scores, expected) in zip(try Self.scores(options, batch), golden.logProbabilities) {
            for (score, value) in zip(scores.dropFirst(2), expected) { #expect(abs(score - value) < 1e-4, "\(score) and \(value)") }
            #expect(abs(scores[0] - log(exp(expected[1]) + exp(expected[3]))) < 1e-4)
            // A network of fewer than ten classes has no probability for the others.
            for k in expected.count..<10 { #expect(scores[2 + k] == -1000 && scores[12 + k] == 0) }
        }
    }

    @Test func shippedWeightsKnowClothes() throws {
        let fashion = try Fashion.load()
        let scores = try Self.scores([:], fashion.batch())
        for (picture, expected) in zip(scores, fashion.logProbabilities) {
            for (score, value) in zip(picture.dropFirst(2), expected) { #expect(abs(score - value) < 1e-4, "\(score) and \(value)") }
        }
        let guesses = scores.map { picture in (0..<10).first { picture[12 + $0] == 1 } }
        #expect(Array(guesses.prefix(10)) == Array(fashion.labels.prefix(10)), "pictures of the test split")
        #expect(zip(guesses, fashion.labels).filter { $0 == $1 }.count >= 19, "one of tiny-sd's shirts looks like a tee")
    }

    @Test(arguments: [["sandal"], ["sandal", "sneaker", "bag", "boot"], ["boot", "tee"], items])
    func chosenProbabilitiesAddUp(classes: [String]) throws {
        let scores = try Self.scores(["classes": classes.joined(separator: "+")], Fashion.load().batch())
        for picture in scores {
            let logProbabilities = picture[2..<12].map(Double.init)
            let chosen = classes.map { logProbabilities[Self.items.firstIndex(of: $0)!] }
            // The logarithm of a sum is taken without leaving float's
            // range: some of these probabilities are below 1e-5.
            #expect(abs(Double(picture[0]) - log(chosen.reduce(0) { $0 + exp($1) })) < 1e-5 * max(1, abs(Double(picture[0]))))
            #expect(picture[0] <= 0)
            #expect(abs(logProbabilities.reduce(0) { $0 + exp($1) } - 1) < 1e-5)
            #expect(abs(Double(picture[1]) + logProbabilities.reduce(0) { $0 + exp($1) * $1 }) < 1e-5, "entropy")
            let best = logProbabilities.indices.max { logProbabilities[$0] < logProbabilities[$1] }
            #expect(picture[12..<22].firstIndex(of: 1) == best! + 12 && picture[12..<22].reduce(0, +) == 1)
        }
    }

    /// More images than a thread takes at once, shared among threads. Each gets the same score as alone.
    @Test(arguments: ["1", "3"]) func picturesDoNotDependOnTheirBatch(threads: String) throws {
        let pictures = (0..<203).map { Self.picture($0, height: 32, width: 32) }
        let together = try Self.scores(["threads": threads], RewardFixture.batch(pictures, height: 32, width: 32))
        for n in [0, 1, 66, 67, 135, 202] {
            let alone = try Self.scores(["threads": "1"], RewardFixture.batch([pictures[n]], height: 32, width: 32))[0]
            #expect(zip(together[n], alone).allSatisfy { abs($0 - $1) <= 1e-4 * max(1, abs($1)) }, "picture \(n)")
        }
    }

    /// One instance, images of changing sizes: the score of a plain image does not depend on its size.
    @Test func resizingKeepsPlainPictures() throws {
        let library = try RewardLibrary(path: RewardSpecification("cifar_classifier").locate().path)
        let reward = try RewardPlugin(library)
        var first: [Float] = []
        for (height, width) in [(32, 32), (1, 1), (7, 300), (300, 7), (32, 33), (32, 32)] {
            let picture = RewardFixture.picture(height: height, width: width) { _, _, channel in [200, 40, 90][channel] }
            let values = try reward.score(RewardFixture.batch([picture], height: height, width: width)).values
            if first.isEmpty { first = values }
            #expect(zip(values, first).allSatisfy { abs($0 - $1) <= 1e-3 * max(1, abs($1)) }, "\(height) x \(width)")
        }
    }

    @Test func passesTheSelfCheck() throws {
        let images = try ImageBatch(
            pixels: Array((0..<9).map { Self.picture($0, height: 40, width: 24) }.joined()), count: 9, height: 40, width: 24)
        #expect(try RewardEvaluator(plugins: ["cifar_classifier"]).selfCheck(images: images) == [])
    }
}
