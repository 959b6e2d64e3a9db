import Foundation
import NN
import Tensors

/// diffusers' AutoencoderKL: maps images to latents and back.
package final class AutoencoderKL: LatentDecoder {
    private struct Configuration: Decodable {
        let className: String
        let inChannels, outChannels, latentChannels, layersPerBlock, normNumGroups: Int
        let blockOutChannels: [Int]
        let downBlockTypes, upBlockTypes: [String]
        let scalingFactor: Double
        let shiftFactor: Double?
        let actFn: String
        // null counts as false, as in Python.
        let useQuantConv, usePostQuantConv, midBlockAddAttention: Bool?

        private enum CodingKeys: String, CodingKey {
            case className = "_className"
            case inChannels, outChannels, latentChannels, layersPerBlock, blockOutChannels, downBlockTypes, upBlockTypes, normNumGroups
            case scalingFactor, shiftFactor, actFn, useQuantConv, usePostQuantConv, midBlockAddAttention
        }
    }

    /// Other keys do not change what Stable Diffusion's pipeline draws.
    private static let defaults = ReferenceDefaults([
        "in_channels": 3, "out_channels": 3, "down_block_types": ["DownEncoderBlock2D"], "up_block_types": ["UpDecoderBlock2D"],
        "block_out_channels": [64], "layers_per_block": 1, "act_fn": "silu", "latent_channels": 4, "norm_num_groups": 32,
        "scaling_factor": 0.18215, "use_quant_conv": true, "use_post_quant_conv": true, "mid_block_add_attention": true,
    ])

    private let scalingFactor: Double
    /// The mean of latents. Stable Diffusion's pipeline of diffusers does not take it off.
    package let shiftFactor: Double
    /// The channels of a latent.
    package let latentChannels: Int
    /// The ratio of an image's height and width to those of its latent.
    package let scale: Int
    private let dtype: DType
    private let encoder: Encoder?
    private let decoder: Decoder
    private let quantConv, postQuantConv: Conv2d?

    /// Loads configuration and weights, frozen, from a folder in diffusers layout.
    /// - Parameter withEncoder: whether `encode` will be called. Sampling and training only decode, and the
    ///   encoder is two fifths of the weights.
    /// - Throws: `ModelError` or `TensorFileError` that names the file and what is missing or not supported.
    package init(folder: ModelFolder, withEncoder: Bool = false, dtype: DType = .float32, device: Device = .cpu) throws {
        let file = folder.url.appendingPathComponent("config.json").path
        let c = try folder.decode(Configuration.self, Self.defaults)
        guard c.className == "AutoencoderKL" else {
            throw ModelError("\(file): model class '\(c.className)' is not supported (AutoencoderKL is)")
        }
        guard ["silu", "swish"].contains(c.actFn) else {
            throw ModelError("\(file): act_fn '\(c.actFn)' is not supported")
        }
        guard c.scalingFactor > 0 else {
            throw ModelError("\(file): scaling_factor \(c.scalingFactor) must be above zero: latents are divided by it")
        }
        let groups = c.normNumGroups
        guard ([c.inChannels, c.outChannels, c.latentChannels] + c.blockOutChannels).allSatisfy(SizeLimits.widths.contains),
            SizeLimits.layers ~= c.layersPerBlock, SizeLimits.blocks ~= c.blockOutChannels.count
        else { throw ModelError("\(file): \(SizeLimits.words)") }
        guard groups > 0, c.blockOutChannels.allSatisfy({ $0 % groups == 0 }) else {
            throw ModelError("\(file): block_out_channels must be multiples of norm_num_groups")
        }
        for (types, supported) in [(c.downBlockTypes, "DownEncoderBlock2D"), (c.upBlockTypes, "UpDecoderBlock2D")] {
            guard types.count == c.blockOutChannels.count, !types.isEmpty else {
                throw ModelError("\(file): block types and block_out_channels must have the same length")
            }
            if let other = types.first(where: { $0 != supported }) {
                throw ModelError("\(file): block type '\(other)' is not supported")
            }
        }
        let store = try folder.parameters(dtype: dtype, device: device, renaming: SpatialAttention.currentKey)
        let settings = BlockSettings(
            timeChannels: nil, groups: groups, eps: 1e-6, downsamplePadding: 0, contextChannels: nil, linearProjection: false)
        let middle: BlockAttention = c.midBlockAddAttention == true ? .spatial(heads: 1) : .none
        let latents = c.latentChannels
        if withEncoder {
            encoder = Encoder(
                c.inChannels, c.blockOutChannels, 2 * latents, c.layersPerBlock, middle, settings, store.root / "encoder")
            quantConv = c.useQuantConv == true ? Conv2d(2 * latents, 2 * latents, kernel: 1, store.root / "quant_conv") : nil
        } else {
            encoder = nil
            quantConv = nil
        }
        decoder = Decoder(
            latents, c.blockOutChannels, c.outChannels, c.layersPerBlock, middle, settings, store.root / "decoder")
        scale = 1 << (c.blockOutChannels.count - 1)
        postQuantConv = c.usePostQuantConv == true ? Conv2d(latents, latents, kernel: 1, store.root / "post_quant_conv") : nil
        scalingFactor = c.scalingFactor
        shiftFactor = c.shiftFactor ?? 0
        latentChannels = latents
        self.dtype = dtype
        try store.finish { !withEncoder && ($0.hasPrefix("encoder.") || $0.hasPrefix("quant_conv.")) }
    }

    /// Returns mean and log-variance of the posterior, float32
    /// [B, latentChannels, H/scale, W/scale] each, not scaled.
    ///
    /// - Parameter images: [B, 3, H, W] in [-1, 1].
    /// - Throws: `ModelError` if the autoencoder was loaded without its encoder.
    package func encode(_ images: Tensor) throws -> (mean: Tensor, logVariance: Tensor) {
        guard let encoder else { throw ModelError("this autoencoder was loaded without its encoder; load it withEncoder: true") }
        let h = encoder(images.to(dtype))
        let moments = (quantConv?(h) ?? h).to(.float32).chunk(2, 1)
        return (moments[0], moments[1].clamp(-30, 20))
    }

    /// Scales an encoder's latents z for the diffusion model: (z - shift) * scaling.
    package func scaled(_ latents: Tensor) -> Tensor { (latents - shiftFactor) * scalingFactor }

    /// Returns images, float32 [B, 3, H, W], nominally in [-1, 1].
    /// - Parameter latents: scaled latents of the diffusion model, [B, latentChannels, H/scale, W/scale].
    package func decode(_ latents: Tensor) -> Tensor {
        var z = latents / scalingFactor
        if shiftFactor != 0 { z = z + shiftFactor }
        z = z.to(dtype)
        return decoder(postQuantConv?(z) ?? z).to(.float32)
    }
}

private struct Encoder {
    private let convIn, convOut: Conv2d
    private let blocks: [DownBlock]
    private let middle: MidBlock
    private let norm: GroupNorm

    init(
        _ input: Int, _ channels: [Int], _ output: Int, _ layers: Int, _ attention: BlockAttention, _ settings: BlockSettings,
        _ scope: Scope
    ) {
        let last = channels.count - 1
        convIn = Conv2d(input, channels[0], kernel: 3, padding: 1, scope / "conv_in")
        blocks = (0...last).map {
            DownBlock(
                channels[max(0, $0 - 1)], channels[$0], layers: layers, attention: .none, downsample: $0 != last, settings,
                scope / "down_blocks" / $0)
        }
        middle = MidBlock(channels[last], attention: attention, settings, scope / "mid_block")
        norm = GroupNorm(settings.groups, channels[last], eps: settings.eps, scope / "conv_norm_out")
        convOut = Conv2d(channels[last], output, kernel: 3, padding: 1, scope / "conv_out")
    }

    func callAsFunction(_ x: Tensor) -> Tensor {
        let h = blocks.reduce(convIn(x)) { $1($0, time: nil, context: nil).0 }
        return convOut(norm(middle(h, time: nil, context: nil)).silu())
    }
}

private struct Decoder {
    private let convIn, convOut: Conv2d
    private let blocks: [UpBlock]
    private let middle: MidBlock
    private let norm: GroupNorm

    init(
        _ input: Int, _ channels: [Int], _ output: Int, _ layers: Int, _ attention: BlockAttention, _ settings: BlockSettings,
        _ scope: Scope
    ) {
        let last = channels.count - 1
        convIn = Conv2d(input, channels[last], kernel: 3, padding: 1, scope / "conv_in")
        middle = MidBlock(channels[last], attention: attention, settings, scope / "mid_block")
        blocks = (0...last).map {
            UpBlock(
                channels[min(last, last - $0 + 1)], channels[last - $0], skips: [], layers: layers + 1, attention: .none,
                upsample: $0 != last, settings, scope / "up_blocks" / $0)
        }
        norm = GroupNorm(settings.groups, channels[0], eps: settings.eps, scope / "conv_norm_out")
        convOut = Conv2d(channels[0], output, kernel: 3, padding: 1, scope / "conv_out")
    }

    func callAsFunction(_ z: Tensor) -> Tensor {
        var h = middle(convIn(z), time: nil, context: nil)
        var skips: [Tensor] = []
        for block in blocks { h = block(h, skips: &skips, time: nil, context: nil) }
        return convOut(norm(h).silu())
    }
}
