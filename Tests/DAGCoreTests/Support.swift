import Foundation
import Models
import NN
import Rewards
import Tensors
import Testing

@testable import DAGCore

/// Tests/Goldens: numbers of diffusers, peft and PyTorch (make_goldens.py).
let goldens = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("Goldens")
/// The shipped pipeline.
let tinySD = goldens.deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("models/tiny-sd").path

/// A JSON golden.
func json(_ name: String) throws -> Any {
    try JSONSerialization.jsonObject(with: Data(contentsOf: goldens.appendingPathComponent(name)))
}

/// Stored tensors.
func tensors(_ name: String) throws -> [String: Tensor] { try Safetensors(contentsOf: goldens.appendingPathComponent(name)).tensors }

/// Largest difference, relative to the largest expected value.
func difference(_ actual: [Double], _ expected: [Double]) -> Double {
    guard actual.count == expected.count else { return .infinity }
    let scale = expected.map { abs($0) }.max() ?? 0
    return zip(actual, expected).map { abs($0 - $1) }.reduce(0) { $1.isNaN ? .infinity : max($0, $1) } / max(scale, 1e-12)
}

/// A folder that is removed with the object.
final class TemporaryFolder {
    let url = FileManager.default.temporaryDirectory.appendingPathComponent("dag-test-\(UUID())")
    init() throws { try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true) }
    deinit { try? FileManager.default.removeItem(at: url) }
}

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

/// A reward for tests: the mean brightness of each picture, in [0, 1].
/// - Parameter count: receives the number of pictures of each batch.
func brightness(count: @escaping @Sendable (Int) -> Void = { _ in }) throws -> RewardEvaluator {
    let reward = CallbackReward(name: "brightness") { batch in
        count(batch.count)
        return (0..<batch.count).map { k in Float(batch.images[k].reduce(0) { $0 + Int($1) }) / Float(batch.images.bytesPerImage * 255) }
    }
    return try RewardEvaluator([(RewardSpecification(library: "brightness"), reward)])
}

/// Small settings on the shipped pipeline.
func smallConfiguration(_ change: (inout TrainingConfiguration) -> Void = { _ in }) -> TrainingConfiguration {
    var c = TrainingConfiguration()
    (c.model, c.prompts, c.rewardPlugin) = (tinySD, "tiny-sd", ["brightness"])
    (c.sampleBatchSize, c.batchesPerEpoch, c.trainBatchSize, c.gradientAccumulationSteps) = (8, 1, 4, 1)
    (c.steps, c.epochs, c.precision, c.device) = (4, 4, .fp32, .cpu)
    (c.beta, c.betaAnnealing, c.learningRate, c.sampleEvery) = (10, 0, 1e-3, 0)
    change(&c)
    return c
}

/// A trainer writing to `folder`.
func trainer(_ configuration: TrainingConfiguration, _ folder: TemporaryFolder, evaluator: RewardEvaluator? = nil) throws -> Trainer {
    let output = OutputFolder(folder.url.appendingPathComponent("run").path)
    try output.prepare()
    return try Trainer(
        configuration, evaluator: evaluator ?? brightness(), prompts: PromptSet.load(configuration.prompts), output: output)
}

extension Trainer {
    /// The trained numbers, in order.
    func weights() throws -> [Float] {
        try (lora.parameters + (flow?.parameters ?? [])).flatMap { try $0.tensor.detach().array(Float.self) }
    }
}
