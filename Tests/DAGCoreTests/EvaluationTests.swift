import AnalyticWorld
import Foundation
import Images
import Rewards
import Support
import Tensors
import TestSupport
import Testing

@testable import DAGCore

/// The reference: importance weights, what is estimated with them, and the errors of that.
@Suite struct EvaluationTests {
    // MARK: Weights

    @Test func weightsByHand() {
        let weights = ImportanceWeights(logWeights: [5, 5 + log(3)])
        #expect(difference(weights.weights, [0.25, 0.75]) < 1e-12)
        #expect(abs(weights.logMean - (5 + log(2))) < 1e-12)
        #expect(abs(weights.effectiveCount - 1.6) < 1e-12)
        #expect(difference(weights.corrected, [0.15625, 0.84375]) < 1e-12)
        #expect(abs(weights.logZ - (5 + log(2) + 0.0625)) < 1e-12)
        #expect(abs(weights.divergence - (0.15625 * log(0.5) + 0.84375 * log(1.5) - 0.0625)) < 1e-12)
    }

    @Test func equalWeights() {
        let weights = ImportanceWeights(logWeights: Array(repeating: -700, count: 8))
        #expect(weights.weights == Array(repeating: 0.125, count: 8))
        #expect(weights.effectiveCount == 8 && weights.divergence == 0 && weights.logMean == -700)
    }

    @Test func samplesWithoutWeight() {
        let weights = ImportanceWeights(logWeights: [0, .nan, log(3)])
        #expect(weights.count == 2 && difference(weights.weights, [0.25, 0, 0.75]) < 1e-12)
        #expect(abs(weights.logMean - log(2)) < 1e-12)
        let none = ImportanceWeights(logWeights: [.nan, .nan])
        #expect(none.count == 0 && none.weights == [0, 0] && none.effectiveCount == 0 && none.logMean.isNaN)
        #expect(none.resampled(2, offset: 0.5) == [])
    }

    @Test func extremeWeights() {
        let one = ImportanceWeights(logWeights: [0, 1e300, -1e300])
        #expect(one.weights == [0, 1, 0] && one.effectiveCount == 1 && one.logMean == 1e300)
        #expect(abs(one.divergence - (log(3) - 1 / 3.0)) < 1e-12)
        #expect(ImportanceWeights(logWeights: [-1e308, -1e308]).weights == [0.5, 0.5])
    }

    @Test func weightsOfGroups() {
        let weights = ImportanceWeights.perGroup(logWeights: [0, 100, log(3), 100, .nan], groups: ["a", "b", "a", "b", "b"])
        #expect(difference(weights, [0.25, 0.5, 0.75, 0.5, 0]) < 1e-12)
    }

    @Test func resampling() {
        let weights = ImportanceWeights(logWeights: [log(1), log(5), .nan, log(2)])
        #expect(weights.resampled(8, offset: 0.5) == [0, 1, 1, 1, 1, 1, 3, 3])
        #expect(weights.resampled(1, offset: 0.1) == [0] && weights.resampled(1, offset: 0.9) == [3])
    }

    // MARK: Estimates

    /// Scores images of one grey pixel: the first objective is trained, all others are its modes.
    private func scored(
        _ scores: [[Float]], objectives: [String] = ["score"], prompts: [Prompt]? = nil, pixels: [UInt8]? = nil,
        divergences: [Double]? = nil
    ) throws -> (images: ScoredImages, evaluator: RewardEvaluator) {
        let reward = CallbackReward(name: "table", objectives: objectives.map { RewardObjective($0) }) { batch in
            batch.sampleIDs.flatMap { scores[Int($0)] }
        }
        let evaluator = try RewardEvaluator([(RewardSpecification("table,on_failure=drop"), reward)])
        let count = scores.count
        let prompts = prompts ?? Array(repeating: "", count: count)
        let pixels = (pixels ?? Array(repeating: 0, count: count)).flatMap { [$0, $0, $0] }
        let images = try ImageBatch(pixels: pixels, count: count, height: 1, width: 1)
        let ids = (0..<UInt64(count)).map { $0 }
        let report = try evaluator.score(RewardBatch(images: images, prompts: prompts, sampleIDs: ids, seeds: ids))
        let none = [Double](repeating: 0, count: count)
        return (ScoredImages(images: images, prompts: prompts, report: report, divergences: divergences ?? none), evaluator)
    }

    private func expect(_ estimate: Estimate?, _ value: Double, _ error: Double, _ comment: Comment? = nil) {
        guard let estimate else {
            Issue.record("there is no estimate")
            return
        }
        #expect(abs(estimate.value - value) < 1e-6, comment)
        #expect(abs((estimate.standardError ?? .nan) - error) < 1e-6, comment)
    }

    /// Two images with the weights 1/4 and 3/4, and 5/32 and 27/32 after the correction.
    @Test func estimatesByHand() throws {
        let s = log(3.0)
        let (images, evaluator) = try scored([[0], [Float(s)]], pixels: [0, 255], divergences: [1, 3])
        let weighted = WeightedImages(images, beta: 1, prompts: [""], evaluator: evaluator, modes: nil)
        expect(weighted.reward, 0.84375 * s, 0.263671875 * s)
        expect(weighted.logZ, log(2) + 0.0625, 0.5)
        expect(weighted.divergence, 0.171307, 0.088020)
        #expect(abs(weighted.diversity.value - 1) < 1e-6)  // the two differ by 1, however often each is drawn
        #expect(abs(weighted.effectiveImages - 1.6) < 1e-6 && abs(weighted.effectiveShare - 0.8) < 1e-6)
        // As images of a LoRA: both count the same.
        let own = WeightedImages(images, beta: 0, prompts: [""], evaluator: evaluator, modes: nil)
        expect(own.reward, s / 2, s / 2)
        expect(own.pathDivergence, 2, 1)
        expect(own.divergence(from: weighted), 2 - s / 2 + log(2) + 0.0625, hypot(1 - s / 2, 0.5))
    }

    /// Each prompt counts the same, and has weights of its own, as have those of other metadata.
    @Test func prompts() throws {
        let s = log(3.0)
        let b = Prompt("a", metadata: "{\"n\":1}")
        let (images, evaluator) = try scored(
            [[0], [1], [Float(s)], [1], [1]], prompts: ["a", b, "a", b, b], pixels: [0, 0, 255, 255, 0])
        let weighted = WeightedImages(images, beta: 1, prompts: ["a", b], evaluator: evaluator, modes: nil)
        expect(weighted.reward, (0.84375 * s + 1) / 2, 0.263671875 * s / 2)
        #expect(abs(weighted.effectiveImages - 4.6) < 1e-6 && abs(weighted.effectiveShare - 0.9) < 1e-6)
        // Squared differences of pairs: 1 in a; 1, 1 and 0 in b.
        #expect(abs(weighted.diversity.value - (5 / 6.0).squareRoot()) < 1e-6)
    }

    /// The weighted images' diversity, by its definition: pairs of different images in proportion to both weights.
    @Test func diversityByHand() throws {
        let (images, evaluator) = try scored([[Float(log(2.0))], [0], [0]], pixels: [0, 255, 255])
        let weighted = WeightedImages(images, beta: 1, prompts: [""], evaluator: evaluator, modes: nil)
        #expect(abs(weighted.diversity.value - (0.5 / 0.625).squareRoot()) < 1e-6)
        let own = WeightedImages(images, beta: 0, prompts: [""], evaluator: evaluator, modes: nil)
        #expect(abs(own.diversity.value - images.images.diversity(groups: ["", "", ""])) < 1e-12)
    }

    /// Cosine distances of weighted images' features, which are not their own lengths', by their definition.
    @Test func featureDiversityByHand() throws {
        var (images, evaluator) = try scored([[Float(log(2.0))], [0], [0], [0]], prompts: ["a", "a", "a", "b"])
        #expect(WeightedImages(images, beta: 1, prompts: ["a"], evaluator: evaluator, modes: nil).featureDiversity == nil)
        images.features = ImageFeatures([[3, 0], [0, 5], [-1, 0], [9, 9]], network: "none")
        let weighted = WeightedImages(images, beta: 1, prompts: ["a"], evaluator: evaluator, modes: nil)
        // Distances 1 and 2 of pairs with the weights 1/8 each, and 1 with 1/16.
        let expected: Double = (1 / 8.0 + 2 / 8.0 + 1 / 16.0) / (5 / 16.0)
        #expect(abs((weighted.featureDiversity?.value ?? .nan) - expected) < 1e-6)
        let own = WeightedImages(images, beta: 0, prompts: ["a"], evaluator: evaluator, modes: nil)
        #expect(abs((own.featureDiversity?.value ?? .nan) - 4 / 3.0) < 1e-12)
    }

    /// Against numpy's covariances and eigenvalues of their product (Tests/Goldens/features).
    @Test func frechetDistances() throws {
        let golden = try #require(try json("features/frechet.json") as? [String: Any])
        let one = try #require(golden["one"] as? [[Double]])
        let other = try #require(golden["other"] as? [[Double]])
        let a = FeatureDistribution(one, weights: one.map { _ in 1 / Double(one.count) })
        let b = FeatureDistribution(other, weights: try #require(golden["weights"] as? [Double]))
        let expected = try #require(golden["distance"] as? Double)
        #expect(try abs(a.frechetDistance(to: b) - expected) < 1e-9 && abs(b.frechetDistance(to: a) - expected) < 1e-9)
        #expect(try a.frechetDistance(to: a) < 1e-6)
        // Fewer images than numbers of a feature: covariances without an inverse.
        let flat = FeatureDistribution([[1, 0, 0], [-1, 0, 0]], weights: [0.5, 0.5])
        let wide = FeatureDistribution([[3, 1, 0], [-3, 1, 0]], weights: [0.5, 0.5])
        #expect(try abs(flat.frechetDistance(to: wide) - (1 + 2 + 18 - 2 * 6)) < 1e-6)
    }

    /// Each prompt counts the same, and halves of the images have all prompts.
    @Test func distancesOfReports() throws {
        let prompts: [Prompt] = (0..<60).map { $0 % 3 == 0 ? "a" : "b" }
        var (images, evaluator) = try scored((0..<60).map { [Float($0) / 60] }, prompts: prompts)
        let random = try Tensor.randn([60 * 4], generator: Generator(seed: 1)).array(Float.self).map(Double.init)
        images.features = ImageFeatures((0..<60).map { Array(random[4 * $0..<4 * $0 + 4]) }, network: "a network")
        var lora = images
        lora.features = ImageFeatures((0..<60).map { place in random[4 * place..<4 * place + 4].map { $0 + 2 } }, network: "a network")
        let report = try EvaluationReport(base: images, lora: lora, betas: [0, 1], evaluator: evaluator, modes: nil)
        // All features shifted by 2 in each of 4 numbers.
        #expect(abs((report.lora?["frechet_distance"]?.value ?? .nan) - 16) < 1e-6)
        #expect(abs(report.references[0]["frechet_distance"]?.value ?? .nan) < 1e-6)
        #expect((report.references[1]["frechet_distance"]?.value ?? 0) > 1e-3)
        #expect((report.base["frechet_distance_of_halves"]?.value ?? 0) > 1e-3 && report.base["frechet_distance"] == nil)
        #expect(report.keys.contains("feature_diversity"))
        // All weight on one image, and halves of one image each: there is no distance, and the other numbers are there.
        let extreme = try EvaluationReport(base: images, lora: nil, betas: [1e30], evaluator: evaluator, modes: nil)
        #expect(extreme.references[0]["frechet_distance"]?.value.isNaN == false)  // one of each prompt
        var (two, other) = try scored([[0], [100]])
        two.features = ImageFeatures([[1, 2, 3], [3, 4, 1]], network: "a network")
        let few = try EvaluationReport(base: two, lora: nil, betas: [1], evaluator: other, modes: nil)
        #expect(few.references[0]["frechet_distance"]?.value.isNaN == true && few.references[0]["reward"]?.value == 100)
        #expect(few.base["frechet_distance_of_halves"]?.value.isNaN == true)
        let json = try #require(
            try JSONSerialization.jsonObject(with: report.json(smallConfiguration())) as? [String: Any])
        #expect(json["features"] as? String == "a network")
    }

    @Test func modesByHand() throws {
        // red, blue, blue, none of them; weights 1/8, 1/8, 2/8, 4/8, and 25/256, 25/256, 58/256, 148/256 corrected.
        let rows: [[Float]] = [[0, 1, 0], [0, 0, 1], [Float(log(2.0)), 0.2, 0.7], [Float(log(4.0)), 0.5, 0.1]]
        let (images, evaluator) = try scored(rows, objectives: ["score", "red", "blue"])
        let modes = try Modes("warm=red,table/blue", of: evaluator.objectiveNames)
        #expect(modes.names == ["warm", "table/blue", "other"])
        let weighted = WeightedImages(images, beta: 1, prompts: [""], evaluator: evaluator, modes: modes)
        let shares = try #require(weighted.shares)
        #expect(difference(shares.map(\.share.value), [0.09765625, 0.32421875, 0.578125]) < 1e-6)
        let warm = 25 / 108.0
        let entropy = -warm * log(warm) - (1 - warm) * log(1 - warm)
        #expect(abs((weighted.modeEntropy?.value ?? .nan) - entropy) < 1e-6)
        let own = WeightedImages(images, beta: 0, prompts: [""], evaluator: evaluator, modes: modes)
        let variation = try #require(own.totalVariation(to: weighted))
        #expect(abs(variation.distance.value - 0.328125) < 1e-6)
        // The mean magnitude of normal errors, of which half the sum counts.
        let errors = zip(shares, own.shares ?? []).map { hypot($0.share.standardError ?? .nan, $1.share.standardError ?? .nan) }
        #expect(abs(variation.byChance - errors.reduce(0, +) / (2 * Double.pi).squareRoot()) < 1e-6)
        #expect(try #require(own.totalVariation(to: own)).distance.value == 0)
    }

    @Test func modesThatAreNone() {
        func message(_ text: String, _ known: [String] = ["a/red", "b#2/red", "b#2/blue"]) -> String {
            do { return "no error: \(try Modes(text, of: known).names)" } catch { return "\(error)" }
        }
        #expect(message("green") == "modes: no reward has the objective 'green'; there are a/red, b#2/red, b#2/blue")
        #expect(message("red").hasPrefix("modes: more than one reward has the objective 'red'"))
        #expect(message("a/red,a/red") == "modes 'a/red,a/red': 'a/red' is there twice")
        #expect(message("other=blue").contains("'other' is the mode of all images that are in no other"))
        #expect(message("blue,").contains("a name is missing"))
    }

    /// Images that a reward cannot score are left out, as are prompts with less than two others.
    @Test func droppedImages() throws {
        let (images, evaluator) = try scored(
            [[0], [.nan], [Float(log(3.0))], [.nan], [7], [.nan]], prompts: ["a", "a", "a", "b", "b", "c"])
        let report = try EvaluationReport(base: images, lora: nil, betas: [1], evaluator: evaluator, modes: nil)
        expect(report.references[0]["reward"], 0.84375 * log(3.0), 0.263671875 * log(3.0))
        #expect(report.warnings[0].contains("3 of 6 images were dropped: reward table cannot score sample 1"), "\(report.warnings)")
        #expect(report.warnings[1] == "2 of 3 prompts have fewer than two images with a score and are left out")
        let (none, other) = try scored([[.nan], [1]], prompts: ["a", "a"])
        #expect(throws: RewardError.self) { try EvaluationReport(base: none, lora: nil, betas: [1], evaluator: other, modes: nil) }
    }

    /// Weights that are too uneven are said, with the number of images that it takes.
    @Test func unevenWeights() throws {
        let (images, evaluator) = try scored((0..<100).map { [Float($0)] })
        let report = try EvaluationReport(base: images, lora: nil, betas: [0, 1, 1e30], evaluator: evaluator, modes: nil)
        #expect(report.references.map { $0.warning == nil } == [true, false, false])
        let effective = report.references[1].images.effectiveImages
        #expect(abs(effective - (1 + exp(-1)) / (1 - exp(-1))) < 1e-6)
        #expect(
            report.warnings.first == """
                beta 1 is too uneven to tell: by their weights 100 images are worth 2.2, 2.2 a prompt, \
                of 10 that it takes (30 in all); draw about 1387 of each prompt, or more, or lower beta
                """)
        #expect(report.references[2]["reward"]?.value == 99)
        #expect(report.references[2]["diversity"]?.value.isNaN == true)
    }

    @Test func equalScores() throws {
        let (images, evaluator) = try scored(Array(repeating: [3], count: 40), pixels: (0..<40).map { UInt8($0) })
        let report = try EvaluationReport(base: images, lora: nil, betas: [1e6], evaluator: evaluator, modes: nil)
        let reference = report.references[0]
        expect(reference["reward"], 3, 0)
        expect(reference["base_kl"], 0, 0)
        expect(reference["log_z"], 3e6, 0)
        #expect(reference["diversity"] == report.base["diversity"])
        #expect(abs((reference["effective_images"]?.value ?? 0) - 40) < 1e-9)
        #expect(report.warnings.isEmpty)
    }

    /// Errors are those of repetitions: squared, and divided by what they are said to be, errors average to 1.
    ///
    /// Scores are normally distributed, so that all is known: under exp(beta s) they have the mean beta.
    @Test func errorsAreThoseOfRepetitions() throws {
        let repetitions = 200
        let images = 400
        let beta = 0.5
        let low = 0.5 * erfc(1 / 2.0.squareRoot())
        let p = 0.5 / (0.5 + low)
        let q = 1 - p
        let truths: [String: Double] = [
            "reward": beta, "log_z": beta * beta / 2, "base_kl": beta * beta / 2, "diversity": 2.0.squareRoot() * 25 / 255,
            "mode/high": 0.5, "mode_entropy": -p * log(p) - q * log(q),
        ]
        var squares: [String: Double] = [:]
        for repetition in 0..<repetitions {
            let scores = try Tensor.randn([images], generator: Generator(seed: UInt64(repetition))).array(Float.self)
            let (all, evaluator) = try scored(
                scores.map { [$0, $0 > 0.5 ? 1 : 0, $0 < -0.5 ? 1 : 0] }, objectives: ["score", "high", "low"],
                pixels: scores.map { UInt8(min(255, max(0, 128 + 25 * $0))) })
            let modes = try Modes("high,low", of: evaluator.objectiveNames)
            let weighted = WeightedImages(all, beta: beta, prompts: [""], evaluator: evaluator, modes: modes)
            let estimates: [String: Estimate?] = [
                "reward": weighted.reward, "log_z": weighted.logZ, "base_kl": weighted.divergence, "diversity": weighted.diversity,
                "mode/high": weighted.shares?[0].share, "mode_entropy": weighted.modeEntropy,
            ]
            for (name, estimate) in estimates {
                let estimate = try #require(estimate)
                let error = (estimate.value - (truths[name] ?? .nan)) / (estimate.standardError ?? .nan)
                squares[name, default: 0] += error * error / Double(repetitions)
            }
        }
        for (name, square) in squares { #expect((0.7...1.35).contains(square), "\(name): \(square)") }
    }

    // MARK: A world whose answer is known

    /// The line, on one thread: its networks are too small for more.
    private func line(_ folder: TemporaryFolder) throws -> (world: AnalyticWorld, trainer: Trainer) {
        Torch.threads = 1
        let world = AnalyticWorld(.anchored)
        return (world, try world.trainer(world.configuration { $0.steps = 25 }, folder: folder.url))
    }

    /// On the line, where sums over grey levels give the exact answer.
    @Test(.slow) func referenceAgreesWithQuadrature() throws {
        let folder = try TemporaryFolder()
        let threads = Torch.threads
        defer { Torch.threads = threads }
        let (world, trainer) = try line(folder)
        @Sendable func position(_ level: Int) -> Double { Double(level) / 127.5 - 1 }
        let names = ["score", "left", "middle", "right"]
        let reward = CallbackReward(name: "line", objectives: names.map { RewardObjective($0) }) { batch in
            (0..<batch.count).flatMap { k -> [Float] in
                let x = position(Int(batch.images[k][0]))
                return [Float(1.5 * x), x < -0.3 ? 1 : 0, x >= -0.3 && x < 0.3 ? 1 : 0, x >= 0.3 ? 1 : 0]
            }
        }
        let evaluator = try RewardEvaluator([(RewardSpecification(library: "line"), reward)])
        let sampler = try ScoringSampler(trainer.configuration, model: trainer.model, evaluator: evaluator)
        let images = try sampler.draw(.none, count: 2048, hasLoRA: true)
        let report = try EvaluationReport(
            base: images.base, lora: images.lora, betas: [0.5, 1, 3], evaluator: evaluator,
            modes: Modes("left,middle,right", of: evaluator.objectiveNames))

        // The sampler's own shares of grey levels, from many other seeds.
        let count = 32_768
        let levels = try world.levels(trainer, samples: count)
        for column in report.references {
            let beta = column.images.beta
            var z = 0.0
            var scores = 0.0
            var baseScores = 0.0
            var shares = [0.0, 0, 0]
            for (level, share) in levels.enumerated() {
                let x = position(level)
                let weight = share * exp(beta * 1.5 * x)
                z += weight
                scores += weight * 1.5 * x
                baseScores += share * 1.5 * x
                shares[x < -0.3 ? 0 : x < 0.3 ? 1 : 2] += weight
            }
            let mean = scores / z
            let truths: [String: Double] = [
                "reward": mean, "log_z": log(z), "base_kl": beta * mean - log(z), "mode/left": shares[0] / z,
                "mode/middle": shares[1] / z, "mode/right": shares[2] / z,
                // The adapters are those of an untrained LoRA, which draws the pretrained model's images.
                "lora_kl_to_target": log(z) - beta * baseScores,
            ]
            for (key, truth) in truths {
                let estimate = try #require(column[key])
                // The truth has an error of its own, smaller by the root of the numbers of images.
                let error = (estimate.standardError ?? .nan) * (1 + 2048 / Double(count)).squareRoot()
                #expect(abs(estimate.value - truth) < 3.5 * error, "beta \(beta), \(key): \(estimate), truth \(truth)")
            }
        }
        expect(report.lora?["base_kl"], 0, 0)
        #expect(report.lora?["reward"] == report.base["reward"])
    }

    /// The distance along trajectories is the mean of log P_theta / P_base over them.
    @Test func divergencesAreThoseOfTrajectories() throws {
        let folder = try TemporaryFolder()
        let threads = Torch.threads
        defer { Torch.threads = threads }
        let trainer = try line(folder).trainer
        withoutGradients {
            for (place, parameter) in trainer.learner.lora.parameters.enumerated() {
                parameter.tensor.copy_(Tensor.randn(parameter.tensor.shape, generator: Generator(seed: UInt64(place))) * 0.25)
            }
        }
        let seeds = (0..<2048).map { UInt64($0) }
        let prompts: [Prompt] = seeds.map { _ in "" }
        let sampler = trainer.collector.sampler
        let found = try sampler.imagesAndDivergences(prompts, seeds: seeds) {}
        let rollout = try sampler.rollOut(
            prompts, seeds: seeds, ids: seeds, evaluator: trainer.collector.evaluator, lookahead: [], reference: true)
        #expect(try rollout.scored().images == found.images)
        let ratios = try zip(rollout.rollout.logForward, rollout.rollout.logReference).map { try ($0 - $1).array(Double.self) }
        let paths = seeds.indices.map { k in ratios.reduce(0) { $0 + $1[k] } }
        func mean(_ values: [Double]) -> Double { values.reduce(0, +) / Double(values.count) }
        let differences = zip(paths, found.divergences).map { $0 - $1 }
        let error = (mean(differences.map { $0 * $0 }) / Double(differences.count)).squareRoot()
        #expect(mean(found.divergences) > 5 * error, "the LoRA has to be far enough from the base: \(mean(found.divergences))")
        #expect(abs(mean(differences)) < 4 * error, "\(mean(paths)) and \(mean(found.divergences))")
    }

    // MARK: Files

    @Test func jsonAndCSV() throws {
        let (images, evaluator) = try scored(
            (0..<40).map { [Float($0) / 64, $0 < 9 ? 1 : 0] }, objectives: ["score", "low"], pixels: (0..<40).map { UInt8($0) })
        let report = try EvaluationReport(
            base: images, lora: images, betas: [2, 1e9], evaluator: evaluator, modes: Modes("low", of: evaluator.objectiveNames))
        let configuration = smallConfiguration()
        let json = try #require(try JSONSerialization.jsonObject(with: report.json(configuration)) as? [String: Any])
        #expect(json.keys.sorted() == ["base", "images", "lora", "prompt_count", "reference", "settings", "version", "warnings"])
        let common = ["diversity", "mode/low", "mode/other", "mode_entropy", "reward", "reward/table/low", "reward/table/score"]
        let own = [
            "base_kl", "beta", "effective_images", "effective_share", "is_reliable", "log_z", "lora_kl_to_target",
            "lora_total_variation", "lora_total_variation_by_chance",
        ]
        #expect((json["base"] as? [String: Any])?.keys.sorted() == common.sorted())
        #expect((json["lora"] as? [String: Any])?.keys.sorted() == (common + ["base_kl"]).sorted())
        let references = try #require(json["reference"] as? [[String: Any]])
        #expect(references.map { $0.keys.sorted() } == [(common + own).sorted(), (common + own).sorted()])
        #expect((references[0]["reward"] as? [String: Any])?.keys.sorted() == ["standard_error", "value"])
        #expect(references[0]["effective_images"] is Double && references[0]["beta"] as? Double == 2)
        #expect(references.map { $0["is_reliable"] as? Bool } == [true, false])
        #expect((references[1]["diversity"] as? [String: Any])?["value"] is NSNull)
        #expect((json["settings"] as? [String: Any])?["model"] as? String == configuration.model)
        let lines = report.csv.split(separator: "\n")
        #expect(lines[0] == "sampler,beta,measure,value,standard_error")
        #expect(lines[1].hasPrefix("base,0,reward,0.30468"))
        #expect(lines.contains { $0.hasPrefix("reference,1000000000,mode/low,0.0,") })
        #expect(lines.contains { $0.hasPrefix("lora,,base_kl,0.0,0.0") })
        #expect(lines.count == 1 + 2 * common.count + 1 + 2 * (common.count + own.count - 2))
    }

    /// Sheets have the same prompts in the same places, and references have images in proportion to the weights.
    @Test func sheets() throws {
        let prompts: [Prompt] = (0..<12).map { $0 % 2 == 0 ? "a" : "b" }
        let scores = (0..<12).map { [Float($0 < 2 ? 1 : 0)] }
        let (images, evaluator) = try scored(scores, prompts: prompts, pixels: (0..<12).map { UInt8($0) })
        let report = try EvaluationReport(base: images, lora: images, betas: [1e6], evaluator: evaluator, modes: nil)
        func levels(_ images: ImageBatch) -> [UInt8] { (0..<images.count).map { images[$0][0] } }
        let sheets = try report.sheets(8).map(levels)
        #expect(sheets == [[0, 2, 4, 6, 1, 3, 5, 7], [0, 0, 0, 0, 1, 1, 1, 1], [0, 2, 4, 6, 1, 3, 5, 7]])
        #expect(try report.sheets(1).map(levels) == [[0], [0], [0]])
    }
}
