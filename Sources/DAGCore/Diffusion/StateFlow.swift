import Foundation
import Models
import NN
import Tensors

/// A network for f_phi(x_t, t, e(c)), from which the state flow is computed.
package protocol FlowNetwork {
    /// The trained tensors in the order of their keys.
    var parameters: [(name: String, tensor: Tensor)] { get }
    /// Returns one number for each state, float32 [n].
    /// - Parameters:
    ///   - x: [n, C, H, W].
    ///   - times: int64 [n].
    ///   - context: text embedding [n, L, D]; nil without text.
    func callAsFunction(_ x: Tensor, times: Tensor, context: Tensor?) -> Tensor
}

/// f_phi(x_t, t, e(c)): the down half of a small U-Net, pooled to a scalar (paper, appendix).
///
/// Channels (64, 128, 256, 256) with one layer each, cross-attention in all but the fourth block; fewer
/// blocks where samples are small, narrower ones beside a narrower U-Net, no cross-attention where the model
/// has no text. Weights are float32; computation is in the model's type.
package final class StateFlow: FlowNetwork {
    /// The trained tensors in the order of their keys.
    package let parameters: [(name: String, tensor: Tensor)]
    private let timesteps = Timesteps(channels: 64, flipSinToCos: true, shift: 0)
    private let timeEmbedding: TimestepEmbedding
    private let convIn: Conv2d
    private let blocks: [DownBlock]
    private let linearOut: Linear
    private let dtype: DType

    /// Channels of the blocks (paper, appendix).
    package static let widths = [64, 128, 256, 256]
    private static let groups = 32

    /// Makes the flow for a model: of the paper's channels, but no wider than the model's network. In pixel
    /// space the flow would else cost more than the model.
    /// - Throws: `TensorFileError` if the store lacks weights.
    convenience init(_ store: ParameterStore, beside model: any DiffusionModel) throws {
        let channels = model.channels
        let widths = Self.widths.enumerated().map { k, width in min(width, max(Self.groups, channels[min(k, channels.count - 1)])) }
        try self.init(store, sampleShape: model.sampleShape, textWidth: model.textWidth, widths: widths, dtype: model.dtype)
    }

    /// Makes the flow for samples of a shape.
    /// - Parameters:
    ///   - store: weights by keys `conv_in`, `time_embedding`, `down_blocks`, `linear_out`.
    ///   - sampleShape: [C, H, W].
    ///   - textWidth: width of the text embedding; nil without text.
    ///   - widths: channels of four blocks, multiples of 32.
    ///   - dtype: type to compute in.
    /// - Throws: `TensorFileError` if the store lacks weights.
    package init(
        _ store: ParameterStore, sampleShape: [Int], textWidth: Int?, widths: [Int] = StateFlow.widths, dtype: DType
    ) throws {
        let size = min(sampleShape[1], sampleShape[2])
        // Every block halves the sample; the last one needs at least two positions.
        let used = size < 64 ? Array(widths.prefix(max(1, Int(log2(Double(size))) - 1))) : widths
        let settings = BlockSettings(
            timeChannels: 256, groups: Self.groups, eps: 1e-5, downsamplePadding: 1, contextChannels: textWidth, linearProjection: false)
        let scope = store.root
        timeEmbedding = TimestepEmbedding(64, 256, scope / "time_embedding")
        convIn = Conv2d(sampleShape[0], widths[0], kernel: 3, padding: 1, scope / "conv_in")
        blocks = used.indices.map { k in
            let attends = textWidth != nil && k < widths.count - 1
            return DownBlock(
                used[max(0, k - 1)], used[k], layers: 1, attention: attends ? .cross(heads: 8, layers: 1) : .none, downsample: true,
                settings, scope / "down_blocks" / k)
        }
        linearOut = Linear(used.last!, 1, scope / "linear_out")
        self.dtype = dtype
        try store.finish()
        parameters = store.parameters.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
    }

    /// Returns one number for each state, float32 [n].
    package func callAsFunction(_ x: Tensor, times: Tensor, context: Tensor?) -> Tensor {
        let context = context?.to(dtype)
        let time = timeEmbedding(timesteps(times).to(dtype)).silu()
        let last = blocks.reduce(convIn(x.to(dtype))) { $1($0, time: time, context: context).0 }
        return linearOut(last.to(.float32).mean([2, 3])).squeeze(1)
    }
}
