import NN
import Tensors

/// Settings that all blocks of one network share.
package struct BlockSettings {
    let timeChannels: Int?
    let groups: Int
    let eps: Double
    let downsamplePadding: Int
    /// The width of the text embedding; nil without text.
    let contextChannels: Int?
    let linearProjection: Bool

    /// - Parameters:
    ///   - timeChannels: the width of the time embedding; nil in autoencoders.
    ///   - groups: the number of groups of every group norm.
    ///   - eps: the eps of the resnets' group norms.
    ///   - downsamplePadding: 1, or 0 for padding at the far edges only.
    ///   - contextChannels: the width of the text embedding; nil without text.
    ///   - linearProjection: whether transformers project with linear
    ///     layers (SD 2.x) instead of 1x1 convolutions (SD 1.x).
    package init(timeChannels: Int?, groups: Int, eps: Double, downsamplePadding: Int, contextChannels: Int?, linearProjection: Bool) {
        self.timeChannels = timeChannels
        self.groups = groups
        self.eps = eps
        self.downsamplePadding = downsamplePadding
        self.contextChannels = contextChannels
        self.linearProjection = linearProjection
    }
}

/// The attention of one block.
package enum BlockAttention {
    case none
    /// Transformer blocks over pixels and text.
    case cross(heads: Int, layers: Int)
    /// Self-attention over pixels.
    case spatial(heads: Int)

    /// The attention of a block class of diffusers; nil if the class is not supported.
    init?(blockType: String, heads: Int, layers: Int) {
        switch blockType {
        case "DownBlock2D", "UpBlock2D", "DownEncoderBlock2D", "UpDecoderBlock2D": self = .none
        case "CrossAttnDownBlock2D", "CrossAttnUpBlock2D": self = .cross(heads: heads, layers: layers)
        case "AttnDownBlock2D", "AttnUpBlock2D": self = .spatial(heads: heads)
        default: return nil
        }
    }

    /// Builds the layer that follows a resnet of `channels` channels; nil without attention.
    func layer(_ channels: Int, _ settings: BlockSettings, _ scope: Scope) -> AttentionLayer? {
        switch self {
        case .none: nil
        case .spatial(let heads):
            .spatial(SpatialAttention(channels, heads: heads, groups: settings.groups, eps: settings.eps, scope))
        case .cross(let heads, let layers):
            .cross(
                Transformer2DModel(
                    channels, context: settings.contextChannels ?? channels, heads: heads, layers: layers, groups: settings.groups,
                    linear: settings.linearProjection, scope))
        }
    }
}

/// An attention layer of either kind.
enum AttentionLayer {
    case cross(Transformer2DModel)
    case spatial(SpatialAttention)

    func callAsFunction(_ x: Tensor, context: Tensor?) -> Tensor {
        switch self {
        case .spatial(let layer): layer(x)
        case .cross(let layer): context.map { layer(x, context: $0) } ?? x
        }
    }
}

/// diffusers' DownBlock2D, CrossAttnDownBlock2D, AttnDownBlock2D and DownEncoderBlock2D.
package struct DownBlock {
    private let layers: [(resnet: ResnetBlock2D, attention: AttentionLayer?)]
    private let downsampler: Downsample2D?

    /// Reads the keys `resnets`, `attentions` and `downsamplers`.
    package init(
        _ input: Int, _ output: Int, layers: Int, attention: BlockAttention, downsample: Bool, _ settings: BlockSettings, _ scope: Scope
    ) {
        self.layers = (0..<layers).map { k in
            (
                ResnetBlock2D(
                    k == 0 ? input : output, output, timeChannels: settings.timeChannels, groups: settings.groups, eps: settings.eps,
                    scope / "resnets" / k),
                attention.layer(output, settings, scope / "attentions" / k)
            )
        }
        downsampler = downsample ? Downsample2D(output, padding: settings.downsamplePadding, scope / "downsamplers" / 0) : nil
    }

    /// Returns the result, and every layer's output for the up path.
    package func callAsFunction(_ x: Tensor, time: Tensor?, context: Tensor?) -> (Tensor, skips: [Tensor]) {
        var x = x
        var skips: [Tensor] = []
        for (resnet, attention) in layers {
            x = resnet(x, time: time)
            if let attention { x = attention(x, context: context) }
            skips.append(x)
        }
        if let downsampler {
            x = downsampler(x)
            skips.append(x)
        }
        return (x, skips)
    }
}

/// diffusers' UNetMidBlock2D and UNetMidBlock2DCrossAttn.
struct MidBlock {
    private let first: ResnetBlock2D
    private let second: ResnetBlock2D?
    private let attention: AttentionLayer?

    /// - Parameter resnets: 2, or 1 in a text-conditional U-Net whose middle block has no attention.
    init(_ channels: Int, resnets: Int = 2, attention: BlockAttention, _ settings: BlockSettings, _ scope: Scope) {
        func resnet(_ k: Int) -> ResnetBlock2D {
            ResnetBlock2D(
                channels, channels, timeChannels: settings.timeChannels, groups: settings.groups, eps: settings.eps, scope / "resnets" / k)
        }
        first = resnet(0)
        self.attention = attention.layer(channels, settings, scope / "attentions" / 0)
        second = resnets > 1 ? resnet(1) : nil
    }

    func callAsFunction(_ x: Tensor, time: Tensor?, context: Tensor?) -> Tensor {
        let h = first(x, time: time)
        let attended = attention?(h, context: context) ?? h
        return second?(attended, time: time) ?? attended
    }
}

/// diffusers' UpBlock2D, CrossAttnUpBlock2D, AttnUpBlock2D and UpDecoderBlock2D.
struct UpBlock {
    private let layers: [(resnet: ResnetBlock2D, attention: AttentionLayer?)]
    private let upsampler: Upsample2D?

    /// - Parameter skips: the channels that are concatenated to each layer's input; empty in autoencoders.
    init(
        _ input: Int, _ output: Int, skips: [Int], layers: Int, attention: BlockAttention, upsample: Bool, _ settings: BlockSettings,
        _ scope: Scope
    ) {
        self.layers = (0..<layers).map { k in
            let skip = skips.isEmpty ? 0 : skips[k]
            let resnet = ResnetBlock2D(
                (k == 0 ? input : output) + skip, output, timeChannels: settings.timeChannels, groups: settings.groups,
                eps: settings.eps, scope / "resnets" / k)
            return (resnet, attention.layer(output, settings, scope / "attentions" / k))
        }
        upsampler = upsample ? Upsample2D(output, scope / "upsamplers" / 0) : nil
    }

    /// - Parameter skips: outputs of the down path; each layer removes one from the end.
    func callAsFunction(_ x: Tensor, skips: inout [Tensor], time: Tensor?, context: Tensor?) -> Tensor {
        var x = x
        for (resnet, attention) in layers {
            if let skip = skips.popLast() { x = Tensor.cat([x, skip], 1) }
            x = resnet(x, time: time)
            if let attention { x = attention(x, context: context) }
        }
        // Odd sizes were rounded up on the way down, so the result takes the size of the next skip.
        return upsampler?(x, size: skips.last.map { ($0.size(2), $0.size(3)) }) ?? x
    }
}
