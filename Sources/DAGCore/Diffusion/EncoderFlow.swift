import Models
import NN
import Tensors

/// f_phi(x_t, t, e(c)): a copy of the encoder of the model's own U-Net, trained as a whole, pooled to a scalar.
///
/// It begins with what the pretrained model has learned of images, where `StateFlow` begins with nothing; in return
/// it has two fifths of the U-Net's weights. Weights are float32; computation is in the model's type.
final class EncoderFlow: FlowNetwork {
    let parameters: [(name: String, tensor: Tensor)]
    private let encoder: UNetEncoder
    private let normOut: GroupNorm
    private let linearOut: Linear

    /// - Parameter store: initialises what follows the encoder: `norm_out` and `linear_out`.
    /// - Throws: `ConfigurationError` if the model's network has no encoder, `TensorError`.
    init(_ store: ParameterStore, beside model: any DiffusionModel) throws {
        guard let copy = try model.copiedEncoder() else {
            let (own, other) = (FlowKind.encoder.rawValue, FlowKind.paper.rawValue)
            throw ConfigurationError("\(setting: "flow_network") \(own): the model's network is no U-Net; use \(other)")
        }
        encoder = copy.network
        let (c, scope) = (encoder.configuration, store.root)
        let channels = model.channels.last!
        normOut = GroupNorm(c.normNumGroups, channels, eps: c.normEps, scope / "norm_out")
        linearOut = Linear(channels, 1, scope / "linear_out")
        try store.finish()
        parameters = copy.parameters.merging(store.parameters) { $1 }.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
    }

    func callAsFunction(_ x: Tensor, times: Tensor, context: Tensor?) -> Tensor {
        let features = encoder(x, timesteps: times, context: context).features
        return linearOut(normOut(features.to(.float32)).silu().mean([2, 3])).squeeze(1)
    }
}
