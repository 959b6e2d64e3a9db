import NN
import Tensors

/// A network that predicts the noise, data or velocity in a sample: `UNet`, or a program's own.
package protocol DenoisingNetwork: AnyObject {
    /// The type that the network computes in.
    var dtype: DType { get }
    /// Every linear layer and convolution by key. Adapters attach to some of them.
    var layers: [String: any AdaptableLayer] { get }
    /// The width of the text embedding; nil if the network takes no text.
    var textWidth: Int? { get }
    /// The channels of the blocks, from the largest resolution to the smallest.
    var channels: [Int] { get }
    /// Returns the prediction, of `x`'s shape.
    /// - Parameters:
    ///   - x: [n, C, H, W].
    ///   - timesteps: int64 [n].
    ///   - context: text embedding [n, L, D], nil without text.
    func callAsFunction(_ x: Tensor, timesteps: Tensor, context: Tensor?) -> Tensor
    /// Copies the network's encoder, without adapters, with float32 weights of its own, by key; nil for a network
    /// that is no U-Net.
    /// - Throws: `TensorError`, `TensorFileError`.
    func copiedEncoder() throws -> (network: UNetEncoder, parameters: [String: Tensor])?
}

extension DenoisingNetwork {
    package func copiedEncoder() throws -> (network: UNetEncoder, parameters: [String: Tensor])? { nil }

    /// Runs `body` with the pretrained weights alone: the adapters of all layers are switched off meanwhile.
    package func withoutAdapters<Result>(_ body: () throws -> Result) rethrows -> Result {
        let adapters = layers.values.compactMap(\.lora).filter(\.isEnabled)
        for adapter in adapters { adapter.isEnabled = false }
        defer { for adapter in adapters { adapter.isEnabled = true } }
        return try body()
    }
}
