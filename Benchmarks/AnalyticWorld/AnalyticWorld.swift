import DAGCore
import Foundation
import Images
import Models
import Rewards
import Tensors

/// A diffusion in the plane, trained by the trainer itself with sums of log-densities, whose target R(x)^beta / Z is known by quadrature.
///
/// The plane is what a picture of two grey pixels can show, [-1, 1] x [-1, 1]; log R is the log-density of a mixture. The base model is
/// another mixture, whose exact noise prediction is the pretrained network.
public struct AnalyticWorld {
    /// What the pretrained model samples.
    public let base = Mixture(
        [(0.25, -0.5, -0.5), (0.25, -0.5, 0.5), (0.25, 0.5, -0.5), (0.25, 0.5, 0.5)], deviation: 0.25)
    /// R(x), up to a factor.
    public let reward = Mixture(
        [(0.1, -0.45, -0.45), (0.2, -0.45, 0.45), (0.3, 0.45, -0.45), (0.4, 0.45, 0.45)], deviation: 0.2)

    /// Cells of the histograms' side.
    public static let bins = 16

    /// The one that docs/results.md is about.
    public init() {}

    /// Settings that fit it; `change` has the last word.
    public func configuration(_ change: (inout TrainingConfiguration) -> Void = { _ in }) -> TrainingConfiguration {
        var c = TrainingConfiguration()
        (c.model, c.prompts, c.device, c.precision, c.logProb) = ("analytic world", "", .cpu, .fp32, .sum)
        (c.steps, c.guidanceScale, c.beta, c.betaAnnealing, c.unetRegularization) = (50, 1, 1, 0, 0)
        (c.sampleBatchSize, c.batchesPerEpoch, c.trainBatchSize, c.gradientAccumulationSteps) = (256, 1, 64, 1)
        (c.loraRank, c.learningRate, c.flowLearningRate, c.weightDecay) = (64, 5e-4, 1e-3, 0)
        (c.sampleEvery, c.checkpointEvery, c.maxRowsPerPass, c.epochs) = (0, 1_000_000, 1 << 16, 100)
        change(&c)
        return c
    }

    /// A trainer of this world, writing to `folder`.
    public func trainer(_ configuration: TrainingConfiguration, folder: URL) throws -> Trainer {
        let schedule = folder.appendingPathComponent("scheduler")
        try FileManager.default.createDirectory(at: schedule, withIntermediateDirectories: true)
        let settings =
            #"{"beta_schedule": "squaredcos_cap_v2", "clip_sample": false, "steps_offset": 1, "set_alpha_to_one": false}"#
        try Data(settings.utf8).write(to: schedule.appendingPathComponent("scheduler_config.json"))
        let scheduler = try DDIMScheduler(folder: ModelFolder(schedule))
        let network = try MixtureNetwork(base, alphasCumprod: scheduler.alphasCumprod)
        let pipeline = DiffusionPipeline(unet: network, scheduler: scheduler, sampleShape: [1, 1, 2])
        let reward = self.reward
        let scored = CallbackReward(name: "log_density", fingerprint: "1") { batch in
            batch.images.withUnsafeBytes { pixels in
                (0..<batch.count).map { k in Self.logReward(reward, Int(pixels[6 * k]), Int(pixels[6 * k + 3])) }
            }
        }
        let output = OutputFolder(folder.appendingPathComponent("run").path)
        try output.prepare()
        return try Trainer(
            configuration, pipeline: pipeline, evaluator: RewardEvaluator([(RewardSpecification(library: "log_density"), scored)]),
            prompts: .none, output: output)
    }

    /// log R of a picture; bounded, so that no point is so bad that it is all that a loss sees.
    private static func logReward(_ reward: Mixture, _ x: Int, _ y: Int) -> Float {
        Float(max(reward.logDensity(Double(x) / 127.5 - 1, Double(y) / 127.5 - 1), -12))
    }

    /// The target as a histogram, [bins * bins], rows of y: R^beta over all pictures that fall into a cell, times the base's density if it is
    /// anchored to that, divided by the sum of all.
    public func target(beta: Double, anchored: Bool) -> [Double] {
        var cells = [Double](repeating: 0, count: Self.bins * Self.bins)
        for y in 0...255 {
            for x in 0...255 {
                let logBase = anchored ? base.logDensity(Double(x) / 127.5 - 1, Double(y) / 127.5 - 1) : 0
                cells[Self.cell(x, y)] += exp(beta * Double(Self.logReward(reward, x, y)) + logBase)
            }
        }
        let total = cells.reduce(0, +)
        return cells.map { $0 / total }
    }

    /// The cell of a picture.
    private static func cell(_ x: Int, _ y: Int) -> Int { y * bins / 256 * bins + x * bins / 256 }

    /// What a trainer samples now, as a histogram of as many pictures.
    public func histogram(_ trainer: Trainer, samples: Int, seed: UInt64 = 1 << 40) throws -> [Double] {
        var cells = [Double](repeating: 0, count: Self.bins * Self.bins)
        for start in stride(from: 0, to: samples, by: 4096) {
            let count = min(4096, samples - start)
            let images = try trainer.sample(
                Array(repeating: "", count: count), seeds: (0..<count).map { seed + UInt64(start + $0) })
            images.withUnsafeBytes { pixels in
                for k in 0..<count { cells[Self.cell(Int(pixels[6 * k]), Int(pixels[6 * k + 3]))] += 1 / Double(samples) }
            }
        }
        return cells
    }

    /// Half the sum of absolute differences of two histograms: 0 for equal ones, 1 for ones that do not overlap.
    public static func totalVariation(_ a: [Double], _ b: [Double]) -> Double { zip(a, b).reduce(0) { $0 + abs($1.0 - $1.1) } / 2 }

    /// What `samples` draws from the histogram itself would differ from it by, on average: the least that can be measured.
    public static func noise(_ target: [Double], samples: Int) -> Double {
        target.reduce(0) { $0 + (2 * $1 * (1 - $1) / .pi / Double(samples)).squareRoot() } / 2
    }

    /// Share of the pictures in each quadrant: those of the reward's components, in their order.
    public static func quadrants(_ histogram: [Double]) -> [Double] {
        var shares = [0.0, 0, 0, 0]
        for (cell, share) in histogram.enumerated() {
            let (x, y) = (cell % bins, cell / bins)
            shares[(x >= bins / 2 ? 2 : 0) + (y >= bins / 2 ? 1 : 0)] += share
        }
        return shares
    }
}
