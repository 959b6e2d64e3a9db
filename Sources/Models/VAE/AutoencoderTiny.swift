import Foundation
import NN
import Tensors

/// The decoder of diffusers' AutoencoderTiny, such as TAESD: narrow convolutions that were trained to make
/// the images that a large autoencoder makes of its scaled latents, at a small part of its cost.
package final class AutoencoderTiny: LatentDecoder {
    private struct Configuration: Decodable {
        let latentChannels, upsamplingScalingFactor: Int
        let numDecoderBlocks, decoderBlockOutChannels: [Int]
        let scalingFactor: Double
    }

    /// Other keys are the encoder's, or do not change what is decoded: magnitude and shift are for latents
    /// that are stored as bytes.
    private static let defaults = ReferenceDefaults(
        [
            "latent_channels": 4, "upsampling_scaling_factor": 2, "num_decoder_blocks": [3, 3, 3, 1],
            "decoder_block_out_channels": [64, 64, 64, 64], "scaling_factor": 1,
        ], fixed: ["out_channels": 3, "act_fn": "relu", "upsample_fn": "nearest", "shift_factor": 0])

    /// The channels of a latent.
    package let latentChannels: Int
    /// The ratio of an image's height and width to those of its latent.
    package let scale: Int
    private let scalingFactor: Double
    private let dtype: DType
    /// In the order and with the numbers of diffusers.
    private let layers: [(Tensor) -> Tensor]

    /// Loads configuration and weights of the decoder, frozen, from a folder in diffusers layout.
    /// - Throws: `ModelError` or `TensorFileError` that names the file and what is missing or not supported.
    package init(folder: ModelFolder, dtype: DType = .float32, device: Device = .cpu) throws {
        let file = folder.url.appendingPathComponent("config.json").path
        let name = try folder.object()["_class_name"] ?? .null
        guard name == "AutoencoderTiny" else {
            throw ModelError("\(file): model class \(name) is not supported (AutoencoderTiny is)")
        }
        let c = try folder.decode(Configuration.self, Self.defaults)
        guard c.scalingFactor > 0 else {
            throw ModelError("\(file): scaling_factor \(c.scalingFactor) must be above zero: latents are divided by it")
        }
        let levels = c.numDecoderBlocks.count
        let width = c.decoderBlockOutChannels.first ?? 0
        guard ([c.latentChannels] + c.decoderBlockOutChannels).allSatisfy(SizeLimits.widths.contains), SizeLimits.blocks ~= levels,
            c.numDecoderBlocks.allSatisfy(SizeLimits.layers.contains)
        else { throw ModelError("\(file): \(SizeLimits.words)") }
        guard c.decoderBlockOutChannels == Array(repeating: width, count: levels) else {
            throw ModelError("\(file): decoder_block_out_channels must be one number, as often as num_decoder_blocks has entries")
        }
        let factor = c.upsamplingScalingFactor
        guard 1...8 ~= factor else {
            throw ModelError("\(file): upsampling_scaling_factor must be from 1 to 8, not \(factor)")
        }
        let store = try folder.parameters(dtype: dtype, device: device)
        let scope = store.root / "decoder" / "layers"
        var layers: [(Tensor) -> Tensor] = []
        func addConvolution(_ input: Int, _ output: Int, bias: Bool) {
            layers.append(Conv2d(input, output, kernel: 3, padding: 1, bias: bias, scope / layers.count).callAsFunction)
        }
        addConvolution(c.latentChannels, width, bias: true)
        layers.append(Activation.relu.callAsFunction)
        for (level, blocks) in c.numDecoderBlocks.enumerated() {
            let isLast = level == levels - 1
            for _ in 0..<blocks { layers.append(TinyBlock(width, scope / layers.count).callAsFunction) }
            if !isLast { layers.append { $0.upsampleNearest(height: $0.size(2) * factor, width: $0.size(3) * factor) } }
            addConvolution(width, isLast ? 3 : width, bias: isLast)
        }
        self.layers = layers
        latentChannels = c.latentChannels
        scale = (1..<levels).reduce(1) { scale, _ in scale * factor }
        scalingFactor = c.scalingFactor
        self.dtype = dtype
        try store.finish { $0.hasPrefix("encoder.") }
    }

    /// Returns images, float32 [B, 3, H, W], nominally in [-1, 1].
    /// - Parameter latents: scaled latents of the diffusion model, [B, latentChannels, H/scale, W/scale].
    package func decode(_ latents: Tensor) -> Tensor {
        // Values far from zero are bent back to within 3.
        let z = (latents / (scalingFactor * 3)).tanh() * 3
        return layers.reduce(z.to(dtype)) { $1($0) }.to(.float32) * 2 - 1
    }
}

/// diffusers' AutoencoderTinyBlock of equal width at both ends.
private struct TinyBlock {
    private let convolutions: [Conv2d]

    init(_ channels: Int, _ scope: Scope) {
        // The numbers between them are the activations'.
        convolutions = [0, 2, 4].map { Conv2d(channels, channels, kernel: 3, padding: 1, scope / "conv" / $0) }
    }

    func callAsFunction(_ x: Tensor) -> Tensor {
        let relu = Activation.relu
        return relu(convolutions[2](relu(convolutions[1](relu(convolutions[0](x))))) + x)
    }
}
