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

    private let encoder: UNetEncoder
    private let upBlocks: [UpBlock]
    private let convOut: Conv2d
    private let normOut: GroupNorm
    /// All weights by key.
    private let parameters: [String: Tensor]
    private let device: Device

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
        let settings = c.blockSettings
        let last = channels.count - 1
        encoder = UNetEncoder(c, dtype: dtype, store)
        var skips = encoder.skipChannels
        upBlocks = (0...last).map { k in
            let mirrored = last - k
            let layers = c.layersPerBlock[mirrored] + 1
            let taken = Array(skips.suffix(layers).reversed())
            skips.removeLast(layers)
            return UpBlock(
                channels[min(last, mirrored + 1)], channels[mirrored], skips: taken, layers: layers,
                attention: c.attention(c.upBlockTypes[k], mirrored), upsample: k != last, settings, scope / "up_blocks" / k)
        }
        normOut = GroupNorm(settings.groups, channels[0], eps: settings.eps, scope / "conv_norm_out")
        convOut = Conv2d(channels[0], c.outChannels, kernel: 3, padding: 1, scope / "conv_out")
        configuration = c
        self.dtype = dtype
        layers = store.layers
        parameters = store.parameters
        device = store.device
    }

    package func copiedEncoder() throws -> (network: UNetEncoder, parameters: [String: Tensor])? {
        let store = ParameterStore(checkpoint: parameters, origin: "U-Net", dtype: .float32, device: device)
        let copy = UNetEncoder(configuration, dtype: dtype, store)
        try store.finish(allowingOthers: true)
        return (copy, store.parameters)
    }

    /// Returns the network's output in its own type; the scheduler knows whether it is epsilon, v or x0.
    /// - Parameters:
    ///   - sample: [B, C, H, W], any floating type.
    ///   - timesteps: int64 [B].
    ///   - context: the text embedding [B, L, cross_attention_dim]; nil for an unconditional model.
    package func callAsFunction(_ sample: Tensor, timesteps t: Tensor, context: Tensor?) -> Tensor {
        let context = context?.to(dtype)
        let first = encoder(sample, timesteps: t, context: context)
        var (x, skips) = (first.features, first.skips)
        for block in upBlocks { x = block(x, skips: &skips, time: first.time, context: context) }
        return convOut(normOut(x).silu())
    }
}
