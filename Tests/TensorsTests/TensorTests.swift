import CTorch
import Foundation
import TestSupport
import Testing

@testable import Tensors

@Suite struct TensorTests {
    /// torch.Generator().manual_seed(7); torch.randn(4) of PyTorch 2.13.
    @Test func generatorIsTorchs() throws {
        let numbers = try Tensor.randn([4], generator: Generator(seed: 7)).array(Float.self)
        #expect(zip(numbers, [-0.1468, 0.7861, 0.9468, -1.1143] as [Float]).allSatisfy { abs($0 - $1) < 1e-4 })
    }

    @Test func errorsAreKeptUntilTheyAreRead() throws {
        let broken = Tensor.zeros([2, 3]) + Tensor.zeros([4, 5])
        #expect(!broken.isDefined)
        let after = broken + Tensor.zeros([1])
        #expect(!after.isDefined)
        let error = #expect(throws: TensorError.self) { try TensorError.check() }
        #expect(error?.description.contains("size of tensor a (3)") == true)
        try TensorError.check()
        #expect(try (Tensor.zeros([2]) + 1).array(Float.self) == [1, 1])
    }

    @Test func gradientsAndAdamW() throws {
        let x = Tensor([1, 2] as [Float])
        x.requiresGrad = true
        try (x.square().sum() * 0.5).backward()
        #expect(try x.grad?.array(Float.self) == [1, 2])
        #expect(abs(try Tensor.clipGradNorm([x], maxNorm: 1) - 5.0.squareRoot()) < 1e-6)
        let moments = [Tensor.zeros([2])]
        try Tensor.adamW(
            [x], moments: (moments, [Tensor.zeros([2])]), steps: [Tensor.zeros([])], learningRate: 0.1, betas: (0.9, 0.999), weightDecay: 0,
            eps: 1e-8)
        // The first step of Adam is the learning rate in each direction.
        #expect(zip(try x.detach().array(Float.self), [0.9, 1.9] as [Float]).allSatisfy { abs($0 - $1) < 1e-5 })
        x.clearGrad()
        #expect(x.grad == nil)
        #expect(withoutGradients { !(x * 2).requiresGrad })
    }

    /// On CUDA the norm of channels-last activations is made of other operations: the same values and
    /// gradients.
    @Test func groupNormChannelsLast() throws {
        let generator = Generator(seed: 3)
        func random(_ shape: [Int]) -> Tensor { Tensor.randn(shape, generator: generator) * 3 + 1 }
        let (x, weight, bias, output) = (random([2, 8, 5, 7]), random([8]), random([8]), random([2, 8, 5, 7]))
        func withGradients(_ norm: (Tensor, Tensor, Tensor) -> Tensor) throws -> [Tensor] {
            let inputs = [x, weight, bias].map { $0.clone() }
            for input in inputs { input.requiresGrad = true }
            let y = norm(inputs[0], inputs[1], inputs[2])
            try (y * output).sum().backward()
            return [y.detach()] + inputs.map { $0.grad! }
        }
        let expected = try withGradients { $0.groupNorm(groups: 4, weight: $1, bias: $2, eps: 1e-5) }
        let actual = try withGradients { x, weight, bias in
            weight.withHandle { w in
                bias.withHandle { b in x.channelsLast().withHandle { Tensor(owning: ct_group_norm_channels_last($0, 4, w, b, 1e-5)) } }
            }
        }
        for (a, b) in zip(actual, expected) {
            #expect(zip(try a.array(Float.self), try b.array(Float.self)).allSatisfy { abs($0 - $1) < 1e-4 * max(1, abs($1)) })
        }
    }

    @Test func safetensorsRoundTrip() throws {
        let folder = try TemporaryFolder()
        let file = folder.url.appendingPathComponent("tensors.safetensors")
        let tensors = [
            "b": Tensor([1.5, -2] as [Float]).to(.bfloat16), "a": Tensor([3] as [Int64], shape: []), "e": Tensor.zeros([0, 2]),
        ]
        let data = try Safetensors.encode(tensors, metadata: ["k": "v"])
        try data.write(to: file)
        let read = try Safetensors(contentsOf: file)
        #expect(read.metadata == ["k": "v"])
        #expect(try read.tensors["b"]!.array(Float.self) == [1.5, -2] && read.tensors["b"]!.dtype == .bfloat16)
        #expect(try read.tensors["a"]!.item() == 3 && read.tensors["e"]!.shape == [0, 2])
        #expect(try Safetensors.encode(tensors, metadata: ["k": "v"]) == data)
        // Any truncation is refused, and names the file.
        for length in [0, 7, 20, data.count - 1] {
            try data.prefix(length).write(to: file)
            let error = #expect(throws: TensorFileError.self) { try Safetensors(contentsOf: file) }
            #expect(error?.description.contains(file.path) == true)
        }
    }

    @Test func torchFilesThatAreNone() throws {
        let folder = try TemporaryFolder()
        let file = folder.url.appendingPathComponent("weights.bin")
        for content in [Data(), Data("no pickle".utf8)] {
            try content.write(to: file)
            let error = #expect(throws: TensorFileError.self) { try TorchFile(contentsOf: file) }
            #expect(error?.description.contains(file.path) == true)
        }
    }
}
