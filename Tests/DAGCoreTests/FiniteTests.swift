import Foundation
import Models
import Rewards
import Support
import Tensors
import TestSupport
import Testing

@testable import DAGCore

/// Numbers that are not finite become no images, and no reward is asked about them.
@Suite struct FiniteTests {
    /// A copy of the shipped pipeline in which all numbers of the tensor with this end of a name have one value.
    private func pipeline(_ part: String, _ suffix: String, _ value: Double, in folder: URL) throws -> DiffusionPipeline {
        let copy = folder.appendingPathComponent("model")
        try FileManager.default.copyItem(atPath: tinySD, toPath: copy.path)
        let weights = copy.appendingPathComponent(part)
        let file = try #require(
            FileManager.default.contentsOfDirectory(at: weights, includingPropertiesForKeys: nil)
                .first { $0.pathExtension == "safetensors" })
        var tensors = try Safetensors(contentsOf: file).tensors.mapValues { $0.clone() }
        let (key, old) = try #require(tensors.first { $0.key.hasSuffix(suffix) })
        tensors[key] = Tensor.full(old.shape, value)
        try Safetensors.encode(tensors).write(to: file)
        return try DiffusionPipeline(folder: copy.path, dtype: .float32, device: .cpu)
    }

    private func message(_ body: () throws -> Void) -> String {
        let error = #expect(throws: NotFiniteError.self, performing: body)
        return error?.description ?? ""
    }

    private func sampler(_ model: DiffusionPipeline) throws -> Sampler {
        Sampler(model: model, kernel: try model.kernel(steps: 4, eta: 1, reduction: .mean), guidance: 5)
    }

    @Test func embeddings() throws {
        try withFolder { folder in
            let model = try pipeline("text_encoder", "final_layer_norm.weight", 3e38, in: folder)
            #expect(message { _ = try model.encode(["a boot"]) }.hasPrefix("the text encoder's embeddings are not finite"))
            #expect(message { _ = try sampler(model).images(["a boot"], seeds: [1]) }.hasPrefix("the text encoder's"))
        }
    }

    /// An output that is too large for the next state is found at the next step.
    @Test func networks() throws {
        try withFolder { folder in
            let model = try pipeline("unet", "conv_out.bias", 3e38, in: folder)
            let found = message { _ = try sampler(model).images(["a boot"], seeds: [1]) }
            #expect(found.hasPrefix("the network's output is not finite at step 2 of 4, with or without a LoRA: lower guidance_scale"))
        }
    }

    @Test func autoencoders() throws {
        let model = try DiffusionPipeline(folder: tinySD, dtype: .float32, device: .cpu)
        let latents = Tensor.full([1] + model.sampleShape, 1)
        #expect(message { _ = try model.decode(latents * 3e38) }.hasPrefix("the decoded images are not finite, though their latents are: "))
        #expect(message { _ = try model.decode(latents * .nan) }.hasPrefix("the decoded images are not finite: "))
        _ = try model.decode(latents)
    }

    /// A LoRA that has diverged: neither sheet nor evaluation nor rollout goes on, and nothing is saved.
    @Test(arguments: [AlgorithmName.ddpo, .dagDB]) func divergedAdapters(algorithm: AlgorithmName) throws {
        let folder = try TemporaryFolder()
        nonisolated(unsafe) var scored = 0
        let evaluator = try brightness { scored += $0 }
        let trainer = try trainer(
            smallConfiguration { ($0.algorithm, $0.evaluationSamples) = (algorithm, 4) }, folder, evaluator: evaluator)
        for (_, tensor) in trainer.learner.lora.parameters { withoutGradients { tensor.copy_(Tensor.full(tensor.shape, 1e30)) } }
        for body in [{ try trainer.runEpoch() }, { try trainer.saveSamples() }, { _ = try trainer.evaluate() }] {
            let found = message(body)
            #expect(found.hasPrefix("the network's output is not finite at step 1 of 4, but is without the LoRA, which has diverged"))
        }
        #expect(message { try trainer.runEpoch() }.hasSuffix("; nothing is saved yet, so resume starts again"))
        #expect(scored == 0)
        let output = trainer.recorder.output
        #expect(try FileManager.default.contentsOfDirectory(atPath: output.checkpoints.path).isEmpty)
        #expect(try FileManager.default.contentsOfDirectory(atPath: output.samples.path).isEmpty)
        #expect(!FileManager.default.fileExists(atPath: output.lora.path))
    }

    /// A run that diverges ends with one line, which says how a resumed one goes on; so does a run that is resumed
    /// with such weights.
    @Test func divergedRuns() throws {
        let folder = try TemporaryFolder()
        let good = smallConfiguration { $0.gradientAccumulationSteps = 2 }
        let bad = smallConfiguration { ($0.gradientAccumulationSteps, $0.learningRate, $0.sampleEvery) = (2, 1e30, 1) }
        let first = try trainer(good, folder)
        try first.runEpoch()
        let output = first.recorder.output
        let checkpoints = try FileManager.default.contentsOfDirectory(atPath: output.checkpoints.path)
        let sound = output.checkpoints.appendingPathComponent(try #require(checkpoints.first))
        let bytes = try Data(contentsOf: sound)

        // Its one step completes the epoch, so that a checkpoint is written before the sheet.
        let second = try trainer(bad, folder)
        try second.resume(from: output)
        let found = message { try second.run() }
        let diverged = output.checkpoints.appendingPathComponent("epoch-00002-step-0000002.safetensors")
        let wayBack = "; \(diverged.path) holds these weights: remove it, and resume goes on from \(sound.lastPathComponent)"
        #expect(found.hasPrefix("the network's output is not finite at step 1 of 4") && found.hasSuffix(wayBack), "\(found)")
        #expect(!FileManager.default.fileExists(atPath: output.sampleSheet(epoch: 2).path))
        #expect(try Data(contentsOf: sound) == bytes)

        let third = try trainer(good, folder)
        try third.resume(from: output)
        #expect(message { try third.run() }.hasSuffix(wayBack))
        try FileManager.default.removeItem(at: diverged)
        try FileManager.default.removeItem(at: sound)
        #expect(Checkpoint.wayBack(from: first.state, in: output).description.hasPrefix("nothing is saved yet"))
        try bytes.write(to: sound)
        #expect(Checkpoint.wayBack(from: first.state, in: output).description.hasSuffix("is the first: start a new run"))
        let fourth = try trainer(good, folder)
        try fourth.resume(from: output)
        #expect(fourth.epochsDone == 1)
        try fourth.runEpoch()
    }

    /// A loss that is not finite is no reason to save the weights that gave it.
    @Test func losses() throws {
        let folder = try TemporaryFolder()
        let trainer = try trainer(smallConfiguration { ($0.algorithm, $0.learningRate) = (.ddpo, 1e30) }, folder)
        let found = message { try trainer.run() }
        #expect(found.hasPrefix("loss or gradient is not finite in step 1: lower learning_rate"), "\(found)")
        #expect(found.hasSuffix("; nothing is saved yet, so resume starts again") && trainer.stepsDone == 1)
    }
}
