import DAGCore
import Foundation
import Models
import NN
import Tensors

/// The exact noise prediction of a mixture under the diffusion, plus a small network that is zero at first and all of which adapters train.
///
///     eps(x, t) = sqrt(1 - abar) sum over k of r_k (x - sqrt(abar) m_k) / v,  v = abar s^2 + 1 - abar,  r_k the posterior of component k
///
/// Samples are pictures of one grey pixel.
package final class MixtureNetwork: DenoisingNetwork {
    /// float32.
    package let dtype = DType.float32
    /// All of the small network's.
    package let layers: [String: any AdaptableLayer]
    /// There is no text.
    package let textWidth: Int? = nil
    /// Widths of the hidden layers of its small network.
    package let channels: [Int]
    private let alphas: Tensor
    private let means, logWeights: Tensor
    private let variance: Double
    private let perceptronLayers: [Linear]

    /// - Parameters:
    ///   - width: of the hidden layers.
    ///   - alphasCumprod: abar(t) of the schedule.
    package init(_ mixture: Mixture, width: Int = 64, alphasCumprod: [Double]) throws {
        channels = [width, width]
        alphas = Tensor(alphasCumprod.map(Float.init))
        means = Tensor(mixture.components.map { Float($0.mean) }, shape: [1, mixture.components.count, 1])
        logWeights = Tensor(mixture.components.map { Float(log($0.weight)) })
        variance = mixture.deviation * mixture.deviation
        let store = ParameterStore(seed: 1, device: .cpu)
        // Names of attention projections, to which adapters attach by default.
        perceptronLayers = [
            Linear(17, width, store.root / "first" / "to_q"), Linear(width, width, store.root / "second" / "to_k"),
            Linear(width, 1, store.root / "last" / "to_v"),
        ]
        layers = store.layers
        let last = store.parameters.filter { $0.key.hasPrefix("last.") }
        for tensor in last.values { tensor.copy_(Tensor.zeros(tensor.shape)) }
        try store.finish()
    }

    /// The predicted noise, [n, 1, 1, 1].
    package func callAsFunction(_ x: Tensor, timesteps times: Tensor, context: Tensor?) -> Tensor {
        let n = x.size(0)
        let points = x.reshape([n, 1])
        let alpha = alphas.indexSelect(0, times).reshape([n, 1, 1])
        let spread = alpha * variance + 1 - alpha
        let offsets = points.unsqueeze(1) - alpha.sqrt() * means  // [n, K, 1]
        let logits = offsets.square().sum([2]) / spread.reshape([n, 1]) * -0.5 + logWeights
        let columns = logits.chunk(means.size(1), 1)
        let scaled = (logits - columns.dropFirst().reduce(columns[0], Tensor.maximum)).exp()
        let posterior = (scaled / scaled.sum([1], keepDims: true)).unsqueeze(2)
        let exact = (posterior * offsets / spread).sum([1]) * (1 - alpha).sqrt().reshape([n, 1])
        return (exact + perceptron(perceptronLayers, points, times)).reshape(x.shape)
    }
}

/// log F of a point: a perceptron, for a convolution has nothing to do on one pixel.
final class PointFlow: FlowNetwork {
    let parameters: [(name: String, tensor: Tensor)]
    private let layers: [Linear]

    init(_ store: ParameterStore) throws {
        layers = [17, 64, 64, 64].enumerated().map { place, width in Linear(width, place < 3 ? 64 : 1, store.root / "layers" / place) }
        try store.finish()
        parameters = store.parameters.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
    }

    func callAsFunction(_ x: Tensor, times: Tensor, context: Tensor?) -> Tensor {
        perceptron(layers, x.reshape([x.size(0), 1]), times).squeeze(1)
    }
}

/// Of points [n, 1] and timesteps [n].
private func perceptron(_ layers: [Linear], _ points: Tensor, _ times: Tensor) -> Tensor {
    let features = Tensor.cat([points, Timesteps(channels: 16, flipSinToCos: true, shift: 0)(times)], 1)
    return layers.dropFirst().reduce(layers[0](features)) { $1($0.silu()) }
}
