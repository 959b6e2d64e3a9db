import NN
import Tensors

/// One pre-norm transformer layer, the same in both towers of
/// CLIP. Parameters have transformers' names or open_clip's.
struct CLIPLayer {
    private let norm1, norm2: LayerNorm
    /// Maps [B, L, size] to queries, keys and values of the same shape.
    private let queriesKeysValues: (Tensor) -> [Tensor]
    private let out, fc1, fc2: Linear
    private let heads: Int
    private let activation: Activation

    /// Builds transformers' CLIPEncoderLayer.
    init(_ size: Int, _ inner: Int, heads: Int, eps: Double, _ activation: Activation, _ scope: Scope) {
        norm1 = LayerNorm(size, eps: eps, scope / "layer_norm1")
        let projections = ["q_proj", "k_proj", "v_proj"].map { Linear(size, size, scope / "self_attn" / $0) }
        queriesKeysValues = { x in projections.map { $0(x) } }
        out = Linear(size, size, scope / "self_attn" / "out_proj")
        norm2 = LayerNorm(size, eps: eps, scope / "layer_norm2")
        fc1 = Linear(size, inner, scope / "mlp" / "fc1")
        fc2 = Linear(inner, size, scope / "mlp" / "fc2")
        self.heads = heads
        self.activation = activation
    }

    /// Builds open_clip's ResidualAttentionBlock, where the
    /// projections of torch.nn.MultiheadAttention are one matrix.
    init(openCLIP size: Int, _ inner: Int, heads: Int, _ activation: Activation, _ scope: Scope) {
        norm1 = LayerNorm(size, scope / "ln_1")
        let weight = (scope / "attn").parameter("in_proj_weight", [3 * size, size], .fanIn(size))
        let bias = (scope / "attn").parameter("in_proj_bias", [3 * size], .zeros)
        queriesKeysValues = { $0.linear(weight, bias).chunk(3, 2) }
        out = Linear(size, size, scope / "attn" / "out_proj")
        norm2 = LayerNorm(size, scope / "ln_2")
        fc1 = Linear(size, inner, scope / "mlp" / "c_fc")
        fc2 = Linear(inner, size, scope / "mlp" / "c_proj")
        self.heads = heads
        self.activation = activation
    }

    /// Keeps the shape [B, L, size]. With `causal`, no token sees those after it.
    func callAsFunction(_ x: Tensor, causal: Bool) -> Tensor {
        let parts = queriesKeysValues(norm1(x))
        let y = x + out(Tensor.attention(parts[0], parts[1], parts[2], heads: heads, causal: causal))
        return y + fc2(activation(fc1(norm2(y))))
    }
}
