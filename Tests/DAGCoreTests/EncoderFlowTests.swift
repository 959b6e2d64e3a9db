import AnalyticWorld
import Foundation
import Models
import NN
import Rewards
import Tensors
import TestSupport
import Testing

@testable import DAGCore

@Suite struct EncoderFlowTests {
    private func flow(_ model: any DiffusionModel, seed: UInt64 = 1) throws -> EncoderFlow {
        try EncoderFlow(ParameterStore(seed: seed, device: model.device), beside: model)
    }

    /// The copy has the weights of the encoder, of which all are trained, and the U-Net keeps its own.
    @Test(arguments: [tinySD, tinyDDPM], [DType.float32, .bfloat16]) func isACopy(folder: String, dtype: DType) throws {
        let model = try DiffusionPipeline(folder: folder, dtype: dtype, device: .cpu)
        let unet = try Safetensors(contentsOf: URL(fileURLWithPath: folder + "/unet/diffusion_pytorch_model.safetensors")).tensors
        let flow = try flow(model)
        let names = Set(flow.parameters.map(\.name))
        let own: Set = ["norm_out.weight", "norm_out.bias", "linear_out.weight", "linear_out.bias"]
        let second = unet.keys.filter { ["up_blocks.", "conv_norm_out.", "conv_out."].contains(where: $0.hasPrefix) }
        #expect(names == Set(unet.keys).subtracting(second).union(own))
        for (name, tensor) in flow.parameters {
            tensor.requiresGrad = true
            guard let original = unet[name] else { continue }
            #expect(try tensor.detach().array(Float.self) == original.to(dtype).to(.float32).reshape(tensor.shape).array(Float.self))
        }
        let x = Tensor.randn([2] + model.sampleShape, generator: Generator(seed: 2))
        let text = try model.encode(["a boot", "a bag"])
        let times = Tensor([3, 700] as [Int64])
        func noise() throws -> [Float] { try model.denoise(x, times: times, text, guidance: 1).guided.detach().array() }
        let before = try noise()
        let values = flow(x, times: times, context: text?.prompts)
        #expect(values.shape == [2] && values.dtype == .float32)
        try values.sum().backward()
        #expect(flow.parameters.allSatisfy { $0.tensor.grad != nil })
        withoutGradients { for (_, tensor) in flow.parameters { tensor.copy_(tensor * 2) } }
        #expect(try noise() == before)
        #expect(try flow(x, times: times, context: text?.prompts).detach().array(Float.self) != values.detach().array(Float.self))
    }

    /// Text, time and state all count.
    @Test func dependsOnAll() throws {
        let model = try DiffusionPipeline(folder: tinySD, dtype: .float32, device: .cpu)
        let flow = try flow(model)
        let x = Tensor.randn([1] + model.sampleShape, generator: Generator(seed: 2))
        let text = try #require(try model.encode(["a boot", "a bag"])).prompts
        func value(_ x: Tensor, _ time: Int64, _ row: Int) throws -> Float {
            try withoutGradients { try flow(x, times: Tensor([time]), context: text.rows([row])).array()[0] }
        }
        let values = [try value(x, 500, 0), try value(x * 2, 500, 0), try value(x, 100, 0), try value(x, 500, 1)]
        #expect(Set(values).count == 4)
    }

    /// Both kinds of algorithm with a flow train it, and a checkpoint holds it.
    @Test(arguments: [AlgorithmName.dagDB, .dagNabla]) func isTrained(algorithm: AlgorithmName) throws {
        let folder = try TemporaryFolder()
        let configuration = smallConfiguration {
            ($0.algorithm, $0.flowNetwork, $0.flowUpdates, $0.replayUpdates, $0.epochs) = (algorithm, .encoder, 1, 1, 1)
            $0.target = algorithm == .dagNabla ? .anchored : .reward
        }
        let first = try trainer(configuration, folder)
        func weights(_ trainer: Trainer) throws -> [Float] {
            try #require(trainer.learner.algorithm.trainedFlow).parameters.flatMap { try $0.tensor.detach().array(Float.self) }
        }
        let fresh = try weights(first)
        try first.run()
        let trained = try weights(first)
        #expect(trained != fresh)
        let second = try trainer(configuration, folder)
        #expect(try weights(second) == fresh)
        try second.resume(from: OutputFolder(folder.url.appendingPathComponent("run").path))
        #expect(try weights(second) == trained)
    }

    /// A network that is no U-Net has no encoder to copy.
    @Test func needsAUNet() throws {
        let (folder, world) = (try TemporaryFolder(), AnalyticWorld(.anchored))
        let pipeline = try world.trainer(world.configuration(), folder: folder.url).model
        let error = #expect(throws: ConfigurationError.self) { try flow(pipeline) }
        #expect(error?.message.text(.flag) == "--flow-network unet-encoder: the model's network is no U-Net; use paper")
    }
}
