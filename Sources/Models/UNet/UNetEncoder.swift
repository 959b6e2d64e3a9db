import NN
import Tensors

/// The encoder of a U-Net: time embedding, down blocks and middle block.
package final class UNetEncoder {
    /// The published configuration of the whole network.
    package let configuration: UNetConfiguration
    /// Channels of the outputs that the up blocks are given, in the order in which they are made.
    let skipChannels: [Int]

    private let dtype: DType
    private let timesteps: Timesteps
    private let timeEmbedding: TimestepEmbedding
    private let convIn: Conv2d
    private let downBlocks: [DownBlock]
    private let midBlock: MidBlock?

    init(_ c: UNetConfiguration, dtype: DType, _ store: ParameterStore) {
        let scope = store.root
        let channels = c.blockOutChannels
        let settings = c.blockSettings
        let last = channels.count - 1
        timesteps = Timesteps(channels: channels[0], flipSinToCos: c.flipSinToCos ?? false, shift: c.freqShift)
        timeEmbedding = TimestepEmbedding(channels[0], c.timeChannels, scope / "time_embedding")
        convIn = Conv2d(c.inChannels, channels[0], kernel: 3, padding: 1, scope / "conv_in")

        var skips = [channels[0]]
        downBlocks = (0...last).map { k in
            let layers = c.layersPerBlock[k]
            skips += Array(repeating: channels[k], count: layers + (k == last ? 0 : 1))
            return DownBlock(
                channels[max(0, k - 1)], channels[k], layers: layers, attention: c.attention(c.downBlockTypes[k], k), downsample: k != last,
                settings, scope / "down_blocks" / k)
        }
        let plainMiddle = c.midBlockType == "UNetMidBlock2D" && c.isConditional
        let attends = c.isConditional || c.addAttention == true
        let middleType = c.isConditional ? "CrossAttnDownBlock2D" : "AttnDownBlock2D"
        let middle: BlockAttention = plainMiddle || !attends ? .none : c.attention(middleType, last)
        let resnets = plainMiddle ? 1 : 2
        midBlock =
            c.midBlockType == nil ? nil : MidBlock(channels[last], resnets: resnets, attention: middle, settings, scope / "mid_block")
        skipChannels = skips
        configuration = c
        self.dtype = dtype
    }

    /// What the encoder makes of a batch, in its own type.
    package struct Output {
        /// That of the last block, [B, C', H', W'].
        package let features: Tensor
        /// Those that the up blocks are given, in the order in which they are made.
        let skips: [Tensor]
        /// The time embedding after SiLU, [B, D]: every block begins with that.
        let time: Tensor
    }

    /// Encodes a batch.
    /// - Parameters:
    ///   - sample: [B, C, H, W], any floating type.
    ///   - timesteps: int64 [B].
    ///   - context: the text embedding [B, L, cross_attention_dim]; nil for an unconditional model.
    package func callAsFunction(_ sample: Tensor, timesteps t: Tensor, context: Tensor?) -> Output {
        let context = context?.to(dtype)
        let input = configuration.centerInputSample == true ? sample * 2 - 1 : sample
        let time = timeEmbedding(timesteps(t).to(dtype)).silu()
        var x = convIn(input.to(dtype))
        var skips = [x]
        for block in downBlocks {
            let (y, outputs) = block(x, time: time, context: context)
            x = y
            skips += outputs
        }
        return Output(features: midBlock?(x, time: time, context: context) ?? x, skips: skips, time: time)
    }
}

extension UNetConfiguration {
    /// The width of the time embedding.
    var timeChannels: Int { 4 * blockOutChannels[0] }

    var blockSettings: BlockSettings {
        BlockSettings(
            timeChannels: timeChannels, groups: normNumGroups, eps: normEps, downsamplePadding: downsamplePadding,
            contextChannels: crossAttentionDim, linearProjection: useLinearProjection ?? false)
    }

    /// Returns the attention of a block class with the channels of down block `index`.
    func attention(_ type: String, _ index: Int) -> BlockAttention {
        BlockAttention(
            blockType: type, heads: heads(index, channels: blockOutChannels[index]), layers: (transformerLayersPerBlock ?? .one(1))[index])
            ?? .none
    }
}
