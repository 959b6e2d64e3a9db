import Foundation
import Images
import Rewards
import Support
import Tensors
import TestSupport
import Testing

@testable import DAGCore

/// Warnings of a score that rises at the cost of diversity or of a held-out reward.
@Suite struct RewardWatchTests {
    /// An epoch whose rewards spread by 1 around `reward`.
    private func epoch(_ reward: Float, diversity: Double = 0.3, heldOut: Float? = nil) -> RewardWatch.Epoch {
        func moments(_ mean: Float) -> Moments { Moments([mean - 1, mean, mean + 1]) }
        return .init(reward: moments(reward), heldOut: heldOut.map { ["other/score": moments($0)] } ?? [:], diversity: diversity)
    }

    /// Warnings of epochs, one after the other.
    private func warnings(_ epochs: [RewardWatch.Epoch]) -> [[String]] {
        var watch = RewardWatch()
        return epochs.map { watch.observe($0, advice: "Fewer epochs") }
    }

    /// The newest epoch tells, and is told of once.
    @Test func aClimbThatCostsDiversity() throws {
        let said = warnings([epoch(0), epoch(1), epoch(2, diversity: 0.1), epoch(2, diversity: 0.1), epoch(3, diversity: 0)])
        #expect(said.map(\.count) == [0, 0, 1, 0, 0])
        #expect(
            said[2] == [
                "the score has risen from 0 to 2 while diversity has fallen from 0.3 to 0.1: look at the samples. "
                    + "Fewer epochs give less of this"
            ])
    }

    @Test func aClimbThatCostsAHeldOutReward() throws {
        let said = warnings([epoch(0, heldOut: 2)] + Array(repeating: epoch(1, heldOut: 1.25), count: 4))
        #expect(said.map(\.count) == [0, 0, 0, 1, 0])
        #expect(said[3][0].contains("the held-out reward other/score has got worse by 0.75, at a deviation of 1"))
    }

    /// The advice names what has an effect.
    @Test func adviceFitsTheRun() {
        func advice(_ algorithm: AlgorithmName, _ target: Target) -> String {
            smallConfiguration { ($0.algorithm, $0.target) = (algorithm, target) }.restraints
        }
        for algorithm in AlgorithmName.allCases where algorithm.usesBeta {
            #expect(advice(algorithm, .reward) == "A smaller beta, the anchored target or fewer epochs")
            #expect(advice(algorithm, .anchored) == "A smaller beta or fewer epochs")
        }
        for algorithm in [AlgorithmName.ddpo, .grpo] {
            #expect(advice(algorithm, .reward) == "A larger base KL coefficient, a smaller learning rate or fewer epochs")
        }
    }

    /// Equal scores are told of once until they differ again, by what they mean to the algorithm.
    @Test func equalScores() throws {
        var watch = RewardWatch()
        func said(_ scores: [Float], _ algorithm: AlgorithmName = .ddpo) -> String? {
            watch.observe(scores: scores, of: ["a/score", "b/score"], by: algorithm)
        }
        let line = "a/score + b/score gave all 2 images the same score, 95.12: ddpo learns nothing from them. "
        #expect(said([1, 2]) == nil)
        #expect(said([95.123, .nan, 95.123])?.hasPrefix(line) == true)
        #expect(said([95.123, 95.123]) == nil)
        watch = try JSONDecoder().decode(RewardWatch.self, from: JSONEncoder().encode(watch))
        #expect(said([0, 0, 0]) == nil && said([0, 1, 0]) == nil)
        #expect(said([0, 0, 0], .dagDB)?.contains("the same score, 0: dag-db trains on, but prefers none of them.") == true)
        #expect(said([7, .nan]) == nil, "one score differs from no other")
    }

    /// A whole run on equal scores: the weights stay, and one line says why.
    @Test func aRewardWithoutSpread() throws {
        let constant = CallbackReward(name: "constant") { batch in Array(repeating: 95.123, count: batch.count) }
        let configuration = smallConfiguration { ($0.algorithm, $0.epochs, $0.steps) = (.ddpo, 2, 2) }
        let folder = try TemporaryFolder()
        let trainer = try trainer(
            configuration, folder, evaluator: RewardEvaluator([(RewardSpecification(library: "constant"), constant)]))
        var (warnings, steps) = ([String](), [StepMetrics]())
        trainer.monitor.onWarning = { warnings.append($0) }
        trainer.onStep = { steps.append($0) }
        try trainer.run()
        #expect(warnings.count == 1 && warnings[0].hasPrefix("epoch 0: constant/score gave all 8 images the same score, 95.12"))
        #expect(steps.count == 4 && steps.allSatisfy { $0.rewardStd == 0 && $0.loss == 0 && $0.policyGradNorm == 0 })
        let ups = trainer.learner.lora.parameters.filter { $0.name.hasSuffix("lora_B") }
        #expect(!ups.isEmpty)
        for up in ups { #expect(try up.tensor.detach().array(Float.self).allSatisfy { $0 == 0 }) }
    }

    /// Prompts with few images are told of, and steps without gradient: here the scores of each prompt are equal,
    /// which counts once there are enough.
    @Test func promptsWithoutSpread() throws {
        let folder = try TemporaryFolder()
        let prompts = folder.url.appendingPathComponent("two.txt")
        try Data("a boot\na tee\n".utf8).write(to: prompts)
        let byPrompt = CallbackReward(name: "by_prompt") { batch in batch.prompts.map { $0 == "a boot" ? 1 : 0 } }
        let configuration = smallConfiguration {
            $0.prompts = prompts.path
            ($0.algorithm, $0.perPromptStatistics, $0.epochs, $0.steps) = (.ddpo, true, 3, 2)
            ($0.sampleBatchSize, $0.trainBatchSize) = (24, 24)
        }
        let trainer = try trainer(
            configuration, folder, evaluator: RewardEvaluator([(RewardSpecification(library: "by_prompt"), byPrompt)]))
        var warnings: [String] = []
        trainer.monitor.onWarning = { warnings.append($0) }
        try trainer.run()
        #expect(warnings.count == 2, "\(warnings)")
        #expect(warnings[0].contains("of the epoch's 2 prompts have fewer than 16 scores so far"))
        #expect(warnings[1] == "step 1: the LoRA had no gradient and learned nothing")
    }

    /// A step without gradient is told of once until there is one, and its cause if it is known.
    @Test func stepsWithoutGradient() throws {
        var watch = RewardWatch()
        func said(norm: Double?, clipped: [Float] = [1, 0]) throws -> String? {
            let numbers = Tensor.zeros([2])
            let transitions = Transitions(
                trajectories: [0, 1], steps: [0, 0], groupSize: 2, logForward: numbers, logForwardAtRollout: numbers,
                logBackward: numbers, weight: Tensor.full([2], 1), logFlows: { _ in (numbers, numbers) })
            var sums = StepSums()
            try sums.add(
                Learner.Pass(
                    weightedLoss: numbers, transitions: transitions, metrics: ["clip_fraction": clipped], scores: [:], report: nil))
            sums.policyGradNorm = norm
            return watch.observe(sums)
        }
        #expect(try said(norm: 1e-9) == nil)
        #expect(try said(norm: nil) == nil, "the flow's own step")
        #expect(try said(norm: 0) == "the LoRA had no gradient and learned nothing")
        #expect(try said(norm: 0) == nil && said(norm: 1) == nil)
        let clipped = "the LoRA had no gradient and learned nothing, since every importance ratio is outside the clip range"
        #expect(try said(norm: 0, clipped: [1, 1]) == clipped)
        #expect(watch.observe(StepSums()) == nil, "a step without transitions is told of elsewhere")
    }

    /// Without a climb, or with one that costs little, or where held-out scores fell by one epoch's chance, nothing
    /// is said.
    @Test func nothingToSay() {
        for later in [
            epoch(0.4, diversity: 0.1, heldOut: 0), epoch(1, diversity: 0.25, heldOut: 1.75), epoch(1, heldOut: 3), epoch(-3, diversity: 0),
        ] {
            #expect(warnings([epoch(0, heldOut: 2)] + Array(repeating: later, count: 5)).joined().isEmpty)
        }
        let heldOut = [2, 2, 1, 2, 2].enumerated().map { epoch(Float($0), heldOut: Float($1)) }
        #expect(warnings(heldOut).joined().isEmpty)
    }

    /// The numbers of metrics.jsonl: images' diversity, no distance before anything is learned and some
    /// after, and a warning that survives a checkpoint, for a held-out reward that is the opposite of the
    /// trained one.
    @Test(.slow) func aRunSaysItOnce() throws {
        let folder = try TemporaryFolder()
        func trainer() throws -> Trainer {
            let rewards: [(RewardSpecification, any Reward)] = [
                (RewardSpecification(library: "brightness"), CallbackReward(name: "brightness", body: brightness)),
                (
                    RewardSpecification(library: "held", weight: 0),
                    CallbackReward(name: "held", objectives: [RewardObjective("light", .minimize)], body: brightness)
                ),
            ]
            return try DAGCoreTests.trainer(
                smallConfiguration {
                    $0.epochs = 8
                    $0.beta = 50
                    $0.learningRate = 3e-3
                    $0.flowLearningRate = 3e-3
                    $0.steps = 6
                }, folder, evaluator: RewardEvaluator(rewards))
        }
        var (warnings, steps) = ([String](), [StepMetrics]())
        func run(_ trainer: Trainer, until epochs: Int) throws {
            trainer.monitor.onWarning = { warnings.append($0) }
            trainer.onStep = { steps.append($0) }
            while trainer.epochsDone < epochs { try trainer.runEpoch() }
        }
        try run(trainer(), until: 7)
        let continued = try trainer()
        try continued.resume(from: OutputFolder(folder.url.appendingPathComponent("run").path))
        try run(continued, until: 8)

        #expect(steps[0].baseDivergence < 1e-6 && steps.last!.baseDivergence > 1)
        let images = try #require(continued.samples).images
        let prompts = try #require(continued.samples).prompts
        #expect(steps.last!.diversity == images.diversity(groups: prompts.map { _ in "" }))
        #expect(steps[0].rewardMean < steps.last!.rewardMean)
        #expect(warnings.count { $0.contains("the held-out reward held/light has got worse") } == 1, "\(warnings)")
    }

    /// Held-out rewards are asked about final images and never about predicted data.
    @Test func heldOutRewardsScoreFinalImagesAlone() throws {
        nonisolated(unsafe) var images = 0
        let held = CallbackReward(name: "held") { batch in
            images += batch.count
            return Array(repeating: 0, count: batch.count)
        }
        let trained = CallbackReward(name: "trained") { batch in Array(repeating: 0, count: batch.count) }
        for forwardLooking in ForwardLooking.allCases {
            images = 0
            let folder = try TemporaryFolder()
            let trainer = try trainer(
                smallConfiguration { $0.forwardLooking = forwardLooking }, folder,
                evaluator: RewardEvaluator([
                    (RewardSpecification(library: "held", weight: 0), held), (RewardSpecification(library: "trained"), trained),
                ]))
            try trainer.runEpoch()
            #expect(images == 8)
            #expect(trainer.samples?.scores.objectives.map(\.name) == ["held/score", "trained/score"])
        }
    }

    /// Two Gaussians of deviation sigma whose means are d apart: d^2 / (2 sigma^2).
    @Test func divergenceOfAStep() throws {
        let kernels = try DDIMKernel(scheduler: scheduler(stableDiffusionSchedule), steps: 10, eta: 1)
        let generator = Generator(seed: 1)
        let x = Tensor.randn([2, 4, 3, 3], generator: generator)
        let (a, b) = (Tensor.randn(x.shape, generator: generator), Tensor.randn(x.shape, generator: generator))
        let indices = Tensor([3, 8] as [Int64])
        let still = Tensor.zeros(x.shape)
        let (first, second) = (
            kernels.sample(a, x: x, noise: still, steps: indices).next, kernels.sample(b, x: x, noise: still, steps: indices).next
        )
        let deviation = (kernels.sample(a, x: x, noise: still + 1, steps: indices).next - first)
        let expected = ((first - second) / deviation).square().sum([1, 2, 3]) * 0.5
        let found = kernels.divergence(a, from: b, x: x, steps: indices)
        #expect(difference(try found.array(Float.self).map(Double.init), try expected.array(Float.self).map(Double.init)) < 1e-4)
    }

    @Test func diversityOfImages() throws {
        // A dark and a bright one are 1 apart; three of which two are the same: root of (0 + 1 + 1) / 3.
        func images(_ values: [UInt8], size: Int) throws -> ImageBatch {
            try ImageBatch(
                pixels: values.flatMap { Array(repeating: $0, count: size * size * 3) }, count: values.count, height: size, width: size)
        }
        let cases: [(values: [UInt8], groups: [String], expected: Double)] = [
            ([0, 255], ["", ""], 1), ([0, 0, 255], ["", "", ""], (2.0 / 3).squareRoot()), ([0, 255], ["a", "b"], 0), ([7], ["a"], 0),
            // Of the same prompt only: two pairs, of which one differs.
            ([0, 255, 9, 9], ["a", "a", "b", "b"], 0.5.squareRoot()),
        ]
        for (values, groups, expected) in cases {
            for size in [3, 16] {
                let found = try images(values, size: size).diversity(groups: groups)
                #expect(abs(found - expected) < 1e-9, "\(values) \(groups)")
            }
        }
    }
}
