import DAGCore
import Foundation
import Images
import Models
import Rewards
import Tensors

/// A diffusion on the line, trained by the trainer itself with sums of log-densities, whose target exp(beta s(x)) / Z is known by quadrature.
///
/// The line is the values of an image of one grey pixel, [-1, 1]. The pretrained model is a mixture of three Gaussians with equal weights, by
/// its exact noise prediction. Where the target is exp(beta s), the score s is the log-density of a mixture with unequal weights; where it
/// is anchored to the pretrained model, s is a straight line, which reweights the modes.
package struct AnalyticWorld {
    /// The pretrained model's density.
    package let base = Mixture(components: [(1 / 3.0, -0.6), (1 / 3.0, 0), (1 / 3.0, 0.6)], deviation: 0.15)
    /// The density whose logarithm is the score, up to a constant.
    package let reward = Mixture(components: [(0.15, -0.6), (0.25, 0), (0.6, 0.6)], deviation: 0.13)
    private let target: Target

    /// Cells of histograms.
    package static let bins = 32

    /// - Parameter target: exp(beta s), or that times the pretrained model's density.
    package init(_ target: Target) { self.target = target }

    /// Settings that fit it; `change` has the last word.
    package func configuration(_ change: (inout TrainingConfiguration) -> Void = { _ in }) -> TrainingConfiguration {
        var configuration = TrainingConfiguration()
        configuration.model = "analytic world"
        configuration.prompts = ""
        configuration.device = .cpu
        configuration.precision = .fp32
        configuration.logProb = .sum
        configuration.steps = 50
        configuration.guidanceScale = 1
        configuration.beta = 1
        configuration.betaAnnealing = 0
        configuration.unetRegularization = 0
        configuration.sampleBatchSize = 256
        configuration.batchesPerEpoch = 1
        configuration.trainBatchSize = 64
        configuration.gradientAccumulationSteps = 1
        // The flow has to be ahead of the policy, which otherwise follows its errors.
        configuration.loraRank = 64
        configuration.loraTargets = "to_q,to_k,to_v"
        configuration.learningRate = 3e-4
        configuration.flowLearningRate = 5e-3
        configuration.weightDecay = 0
        configuration.clipRange = 0.2
        configuration.target = target
        configuration.sampleEvery = 0
        configuration.checkpointEvery = 1_000_000
        configuration.maxRowsPerPass = 1 << 16
        configuration.epochs = 300
        change(&configuration)
        return configuration
    }

    /// A trainer of this world, writing to `folder`.
    /// - Parameter pretrained: the pretrained model's density, if not `base`.
    package func trainer(
        _ configuration: TrainingConfiguration, folder: URL, pretrained: Mixture? = nil, team: Team = Team()
    ) throws -> Trainer {
        let schedule = folder.appendingPathComponent("scheduler")
        try FileManager.default.createDirectory(at: schedule, withIntermediateDirectories: true)
        // A cosine schedule has many steps where the modes take shape. Predictions are clamped: there is no image outside [-1, 1].
        let settings = #"{"beta_schedule": "squaredcos_cap_v2", "clip_sample": true, "steps_offset": 1, "set_alpha_to_one": false}"#
        try Data(settings.utf8).write(to: schedule.appendingPathComponent("scheduler_config.json"))
        let scheduler = try DDIMScheduler(folder: ModelFolder(schedule))
        let network = try MixtureNetwork(pretrained ?? base, alphasCumprod: scheduler.alphasCumprod)
        let model = DiffusionPipeline(unet: network, scheduler: scheduler, sampleShape: [1, 1, 1])
        let levels = (0...255).map(score)
        let scored = CallbackReward(name: "log_density", fingerprint: "1") { batch in
            batch.images.withUnsafeBytes { pixels in (0..<batch.count).map { levels[Int(pixels[3 * $0])] } }
        }
        let output = OutputFolder(folder.appendingPathComponent("run").path)
        try output.prepare()
        return try Trainer(
            configuration, model: model, evaluator: RewardEvaluator([(RewardSpecification(library: "log_density"), scored)]),
            prompts: .none, output: output, team: team, makeFlow: { try PointFlow($0) })
    }

    private static func position(_ level: Int) -> Double { Double(level) / 127.5 - 1 }

    /// The score of a grey level. It is bounded, since a single very bad point would dominate a loss.
    private func score(_ level: Int) -> Float {
        let x = Self.position(level)
        return target == .anchored ? Float(1.5 * x) : Float(max(reward.logDensity(x), -12))
    }

    /// The target as a histogram [bins]: exp(beta s) of the grey levels in each cell, times their shares under the pretrained model if the
    /// target is anchored to it, normalised.
    /// - Parameter pretrained: shares of the 256 grey levels among the pretrained model's images, as its sampler makes them.
    package func truth(beta: Double, pretrained: [Double]) -> [Double] {
        let levels = (0...255).map { exp(beta * Double(score($0))) * (target == .anchored ? pretrained[$0] : 1) }
        return Self.histogram(levels.map { $0 / levels.reduce(0, +) })
    }

    /// The density of `base` itself.
    package var baseDensity: [Double] {
        let levels = (0...255).map { exp(base.logDensity(Self.position($0))) }
        return Self.histogram(levels.map { $0 / levels.reduce(0, +) })
    }

    /// Shares of the 256 grey levels among `samples` images of the trainer as it is now.
    package func levels(_ trainer: Trainer, samples: Int, seed: UInt64 = 1 << 40) throws -> [Double] {
        var levels = [Double](repeating: 0, count: 256)
        for start in stride(from: 0, to: samples, by: 4096) {
            let count = min(4096, samples - start)
            let images = try trainer.sample(Array(repeating: "", count: count), seeds: (0..<count).map { seed + UInt64(start + $0) })
            images.withUnsafeBytes { pixels in for k in 0..<count { levels[Int(pixels[3 * k])] += 1 / Double(samples) } }
        }
        return levels
    }

    /// Shares of grey levels, added up in cells.
    package static func histogram(_ levels: [Double]) -> [Double] {
        levels.enumerated().reduce(into: Array(repeating: 0, count: bins)) { $0[$1.offset * bins / 256] += $1.element }
    }

    /// Half the sum of absolute differences of two histograms: 0 for equal ones, 1 for ones that do not overlap.
    package static func totalVariation(_ a: [Double], _ b: [Double]) -> Double { zip(a, b).reduce(0) { $0 + abs($1.0 - $1.1) } / 2 }

    /// The average total variation between a histogram and that of `samples` draws from it: the least that can be measured.
    package static func noise(_ target: [Double], samples: Int) -> Double {
        target.reduce(0) { $0 + (2 * $1 * (1 - $1) / .pi / Double(samples)).squareRoot() } / 2
    }

    /// Shares of the images at each of the three modes: below -0.3, up to 0.3, and above. Cells across a border count half.
    package static func shares(_ histogram: [Double]) -> [Double] {
        histogram.enumerated().reduce(into: [0.0, 0, 0]) { shares, entry in
            for half in 0...1 {
                let x = (Double(entry.offset) + 0.25 + 0.5 * Double(half)) * 2 / Double(bins) - 1
                shares[x < -0.3 ? 0 : x < 0.3 ? 1 : 2] += entry.element / 2
            }
        }
    }
}
