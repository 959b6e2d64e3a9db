import ArgumentParser
import Foundation
@testable import DAGCore
@testable import Models
@testable import NN
@testable import Tensors

/// Times the U-Net and the decoder of a model, in batches.
struct Speed: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Time the U-Net, forward and with the gradients of LoRA, and the decoder.",
        discussion: "Prints JSON: milliseconds a row (of the decoder: a picture) by the number of rows at once, medians.")

    @Argument(help: "A folder in diffusers' layout, of a model with text.") var folder: String
    @Option(help: "cpu or cuda.") var device = DeviceChoice.cpu
    @Option(help: "fp32 or bf16.") var precision = Precision.bf16
    @Option(parsing: .upToNextOption, help: "Rows at once, forward.") var forward = [1, 4, 16]
    @Option(parsing: .upToNextOption, help: "Rows at once, forward and backward.") var backward = [1, 4, 16]
    @Option(parsing: .upToNextOption, help: "Pictures at once of the decoder.") var decode = [1, 8]
    @Option(help: "Times that each is run after two that do not count.") var runs = 5

    func run() throws {
        let device = try device.resolve()
        let dtype = precision.resolve(on: device)
        let root = URL(fileURLWithPath: folder)
        let unet = try UNet(folder: ModelFolder(root.appendingPathComponent("unet")), dtype: dtype, device: device)
        let side = unet.configuration.sampleSize.map { $0[0] } ?? 64
        let channels = unet.configuration.inChannels
        let generator = Generator(seed: 0)
        func random(_ shape: [Int]) -> Tensor { Tensor.randn(shape, generator: generator).to(dtype).to(device) }
        func time(_ counts: [Int], _ call: (Int) throws -> () throws -> Tensor) throws -> [String: Double] {
            try counts.reduce(into: [:]) { $0["\($1)"] = try milliseconds(runs: runs, call($1)) / Double($1) }
        }
        func output(_ count: Int) -> () -> Tensor {
            let x = random([count, channels, side, side])
            let t = Tensor(Array(repeating: Int64(500), count: count), device: device)
            let context = unet.textWidth.map { random([count, 77, $0]) }
            return { unet(x, timesteps: t, context: context).to(.float32) }
        }
        var found: [String: [String: Double]] = [:]
        found["forward"] = try withoutGradients { try time(forward, output) }
        let parameters = try LoRAAdapters(rank: 4, seed: 0, attachingTo: unet.layers, device: device).parameters.map(\.tensor)
        for tensor in parameters { tensor.requiresGrad = true }
        found["forward and backward"] = try time(backward) { count in
            let output = output(count)
            return {
                for tensor in parameters { tensor.clearGrad() }
                try output().square().mean().backward()
                return parameters[0].grad ?? parameters[0]
            }
        }
        let vae = try AutoencoderKL(folder: ModelFolder(root.appendingPathComponent("vae")), dtype: dtype, device: device)
        found["decode"] = try withoutGradients {
            try time(decode) { count in
                let latents = random([count, channels, side, side])
                return { vae.decode(latents) }
            }
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted]
        print(String(decoding: try encoder.encode(found), as: UTF8.self))
    }
}
