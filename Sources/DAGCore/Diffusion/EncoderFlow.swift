import Models
import NN
import Tensors

/// f_phi(x_t, t, e(c)): a copy of the first half of the model's own U-Net, trained as a whole, pooled to a scalar.
///
/// It begins with what the pretrained model has learned of images, and so needs fewer of them than `StateFlow`; in
/// return it has as many weights as half of the U-Net. Weights are float32; computation is in the model's type.
final class EncoderFlow: FlowNetwork {
    let parameters: [(name: String, tensor: Tensor)]
    private let encoder: UNetEncoder
    private let normOut: GroupNorm
    private let linearOut: Linear

    /// - Parameter store: initialises what follows the encoder: `norm_out` and `linear_out`.
    /// - Throws: `ConfigurationError` if the model's network has no encoder, `TensorError`.
    init(_ store: ParameterStore, beside model: any DiffusionModel) throws {
        guard let copy = try model.copiedEncoder() else {
            throw ConfigurationError("\(setting: "flow_network") \(FlowKind.encoder.rawValue): the model's network is no U-Net")
        }
        encoder = copy.network
        let channels = model.channels.last!
        let scope = store.root
        normOut = GroupNorm(encoder.configuration.normNumGroups, channels, eps: 1e-5, scope / "norm_out")
        linearOut = Linear(channels, 1, scope / "linear_out")
        try store.finish()
        parameters = copy.parameters.merging(store.parameters) { $1 }.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
    }

    func callAsFunction(_ x: Tensor, times: Tensor, context: Tensor?) -> Tensor {
        let features = encoder(x, timesteps: times, context: context).features
        return linearOut(normOut(features.to(.float32)).silu().mean([2, 3])).squeeze(1)
    }
}
