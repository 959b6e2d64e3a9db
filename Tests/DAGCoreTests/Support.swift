import Foundation
import Models
import NN
import Rewards
import Tensors
import TestSupport
import Testing

@testable import DAGCore

/// A scheduler of a configuration as JSON.
func scheduler(_ configuration: Any) throws -> DDIMScheduler {
    let folder = try TemporaryFolder()
    try JSONSerialization.data(withJSONObject: configuration).write(to: folder.url.appendingPathComponent("scheduler_config.json"))
    return try DDIMScheduler(folder: ModelFolder(folder.url))
}

/// Stable Diffusion 1.5's schedule.
let stableDiffusionSchedule: [String: any Sendable] = [
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000, "clip_sample": false,
    "set_alpha_to_one": false, "steps_offset": 1,
]

/// An AutoencoderTiny with random weights that fits the shipped pipeline.
let tinyDecoder = goldens.appendingPathComponent("vae-tiny-4x").path

/// Small settings on the shipped pipeline.
func smallConfiguration(_ change: (inout TrainingConfiguration) -> Void = { _ in }) -> TrainingConfiguration {
    var c = TrainingConfiguration()
    c.model = tinySD
    c.prompts = "tiny-sd"
    c.rewardPlugin = ["brightness"]
    c.beta = 10
    c.betaAnnealing = 0
    c.learningRate = 1e-3
    c.epochs = 4
    c.sampleBatchSize = 8
    c.batchesPerEpoch = 1
    c.trainBatchSize = 4
    c.gradientAccumulationSteps = 1
    c.steps = 4
    c.precision = .fp32
    c.device = .cpu
    c.sampleEvery = 0
    change(&c)
    return c
}

/// Whether two numbers are no further from each other than a share of the second, or both are missing.
func agree(_ a: Double?, _ b: Double?, within share: Double) -> Bool {
    guard let a, let b else { return a == nil && b == nil }
    return abs(a - b) <= share * abs(b) + 1e-7
}

/// A trainer writing to `folder`.
func trainer(_ configuration: TrainingConfiguration, _ folder: TemporaryFolder, evaluator: RewardEvaluator? = nil) throws -> Trainer {
    let output = OutputFolder(folder.url.appendingPathComponent("run").path)
    try output.prepare()
    let decoder = configuration.predictionDecoder
    let model = try DiffusionPipeline(
        folder: configuration.model, predictionDecoder: decoder.isEmpty ? nil : decoder, height: configuration.height,
        width: configuration.width, dtype: .float32, device: .cpu)
    return try Trainer(
        configuration, model: model, evaluator: evaluator ?? brightness(),
        prompts: configuration.prompts.isEmpty ? .none : PromptSet.load(configuration.prompts), output: output)
}

/// A learner of its own, with fresh weights.
func learner(_ configuration: TrainingConfiguration) throws -> Learner {
    let model = try DiffusionPipeline(folder: configuration.model, dtype: .float32, device: .cpu)
    let kernel = try model.kernel(steps: configuration.steps, eta: configuration.eta, reduction: configuration.logProb)
    return try Learner(configuration, model: model, kernel: kernel)
}

/// The scored trajectories of a trainer's epoch under way.
func scoredEpoch(_ trainer: Trainer) throws -> ScoredEpoch {
    let rollout = try #require(trainer.rollout)
    return ScoredEpoch(index: trainer.state.epoch, rollout: rollout, conditioning: try trainer.model.encode(rollout.prompts.map(\.text)))
}

extension Learner {
    /// The first step of an epoch.
    func step(_ epoch: ScoredEpoch, _ trajectories: [Int]) throws -> StepSums { try step(epoch, trajectories, update: 0, step: 0) }
}

extension Trainer {
    /// The trained numbers, in order.
    func weights() throws -> [Float] {
        try (learner.lora.parameters + (learner.algorithm.trainedFlow?.parameters ?? [])).flatMap {
            try $0.tensor.detach().array(Float.self)
        }
    }
}
