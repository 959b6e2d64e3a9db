import Foundation
import NN
import Tensors

/// diffusers' UNet2DConditionModel (Stable Diffusion 1.x and 2.x)
/// and UNet2DModel (DDPM): one network, with or without text.
package final class UNet: DenoisingNetwork {
    /// The published configuration.
    package let configuration: UNetConfiguration
    /// The type that the network computes in.
    package let dtype: DType
    /// The width of the text embedding; nil without text.
    package var textWidth: Int? { configuration.isConditional ? configuration.crossAttentionDim : nil }
    /// The channels of the blocks, from the largest resolution to the smallest.
    package var channels: [Int] { configuration.blockOutChannels }
    /// Every linear layer and convolution by key, for adapters.
    package let layers: [String: any AdaptableLayer]

    private let timesteps: Timesteps
    private let timeEmbedding: TimestepEmbedding
    private let convIn, convOut: Conv2d
    private let downBlocks: [DownBlock]
    private let midBlock: MidBlock?
    private let upBlocks: [UpBlock]
    private let normOut: GroupNorm

    /// Returns the key of a stored weight: older files name the layers of attention otherwise.
    package static func currentKey(_ stored: String) -> String { SpatialAttention.currentKey(stored) }

    /// Loads configuration and weights, frozen, from a folder in diffusers layout.
    /// - Throws: `ModelError` or `TensorFileError` that names the file and what is missing or not supported.
    package convenience init(folder: ModelFolder, dtype: DType = .float32, device: Device = .cpu) throws {
        let configuration = try UNetConfiguration.read(folder)
        let store = try folder.parameters(dtype: dtype, device: device, renaming: Self.currentKey)
        self.init(configuration, dtype: dtype, store)
        try store.finish()
    }

    init(_ c: UNetConfiguration, dtype: DType, _ store: ParameterStore) {
        let scope = store.root
        let channels = c.blockOutChannels
        let timeChannels = 4 * channels[0]
        let settings = BlockSettings(
            timeChannels: timeChannels, groups: c.normNumGroups, eps: c.normEps,
            downsamplePadding: c.downsamplePadding, contextChannels: c.crossAttentionDim,
            linearProjection: c.useLinearProjection ?? false)
        let last = channels.count - 1
        func attention(_ type: String, _ index: Int) -> BlockAttention {
            BlockAttention(
                blockType: type, heads: c.heads(index, channels: channels[index]), layers: (c.transformerLayersPerBlock ?? .one(1))[index])
                ?? .none
        }

        timesteps = Timesteps(channels: channels[0], flipSinToCos: c.flipSinToCos ?? false, shift: c.freqShift)
        timeEmbedding = TimestepEmbedding(channels[0], timeChannels, scope / "time_embedding")
        convIn = Conv2d(c.inChannels, channels[0], kernel: 3, padding: 1, scope / "conv_in")

        var skips = [channels[0]]
        downBlocks = (0...last).map { k in
            let layers = c.layersPerBlock[k]
            skips += Array(repeating: channels[k], count: layers + (k == last ? 0 : 1))
            return DownBlock(
                channels[max(0, k - 1)], channels[k], layers: layers, attention: attention(c.downBlockTypes[k], k), downsample: k != last,
                settings, scope / "down_blocks" / k)
        }
        let plainMiddle = c.midBlockType == "UNetMidBlock2D" && c.isConditional
        let attends = c.isConditional || c.addAttention == true
        let middleType = c.isConditional ? "CrossAttnDownBlock2D" : "AttnDownBlock2D"
        let middle: BlockAttention = plainMiddle || !attends ? .none : attention(middleType, last)
        let resnets = plainMiddle ? 1 : 2
        midBlock =
            c.midBlockType == nil ? nil : MidBlock(channels[last], resnets: resnets, attention: middle, settings, scope / "mid_block")
        upBlocks = (0...last).map { k in
            let mirrored = last - k
            let layers = c.layersPerBlock[mirrored] + 1
            let taken = Array(skips.suffix(layers).reversed())
            skips.removeLast(layers)
            return UpBlock(
                channels[min(last, mirrored + 1)], channels[mirrored], skips: taken, layers: layers,
                attention: attention(c.upBlockTypes[k], mirrored), upsample: k != last, settings, scope / "up_blocks" / k)
        }
        normOut = GroupNorm(settings.groups, channels[0], eps: settings.eps, scope / "conv_norm_out")
        convOut = Conv2d(channels[0], c.outChannels, kernel: 3, padding: 1, scope / "conv_out")
        configuration = c
        self.dtype = dtype
        layers = store.layers
    }

    /// Returns the network's output in its own type; the scheduler knows whether it is epsilon, v or x0.
    /// - Parameters:
    ///   - sample: [B, C, H, W], any floating type.
    ///   - timesteps: int64 [B].
    ///   - context: the text embedding [B, L, cross_attention_dim]; nil for an unconditional model.
    package func callAsFunction(_ sample: Tensor, timesteps t: Tensor, context: Tensor?) -> Tensor {
        let context = context?.to(dtype)
        let input = configuration.centerInputSample == true ? sample * 2 - 1 : sample
        // Every block applies SiLU to the embedding first; once is enough.
        let time = timeEmbedding(timesteps(t).to(dtype)).silu()
        var x = convIn(input.to(dtype))
        var skips = [x]
        for block in downBlocks {
            let (y, outputs) = block(x, time: time, context: context)
            x = y
            skips += outputs
        }
        x = midBlock?(x, time: time, context: context) ?? x
        for block in upBlocks { x = block(x, skips: &skips, time: time, context: context) }
        return convOut(normOut(x).silu())
    }
}
