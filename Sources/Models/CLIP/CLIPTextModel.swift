import Foundation
import NN
import Tensors

/// transformers' CLIPTextModel: the text encoder of Stable Diffusion 1.x and 2.x.
public final class CLIPTextModel {
    private struct Configuration: Decodable {
        let architectures: [String]?
        let vocabSize, hiddenSize, intermediateSize, numHiddenLayers, numAttentionHeads, maxPositionEmbeddings: Int
        let hiddenAct: String
        let layerNormEps: Double?
    }

    /// Tokens of a prompt, padding included.
    public let maxLength: Int
    /// Width of the embedding.
    public let hiddenSize: Int
    private let vocabularySize: Int
    private let tokenEmbedding, positionEmbedding: Embedding
    private let layers: [Layer]
    private let finalNorm: LayerNorm
    private let device: Device

    /// Loads configuration and weights from a folder in diffusers layout; float32, frozen.
    public init(folder: ModelFolder, device: Device = .cpu) throws {
        let file = folder.url.appendingPathComponent("config.json").path
        let c = try folder.decode(Configuration.self)
        if let architecture = c.architectures?.first, !["CLIPTextModel", "CLIPTextModelWithProjection"].contains(architecture) {
            throw ModelError("\(file): text encoder '\(architecture)' is not supported (CLIPTextModel is)")
        }
        guard let activation = Activation(rawValue: c.hiddenAct) else {
            throw ModelError("\(file): hidden_act '\(c.hiddenAct)' is not supported")
        }
        guard c.numAttentionHeads > 0, c.hiddenSize > 0, c.hiddenSize % c.numAttentionHeads == 0, c.numHiddenLayers > 0,
            c.maxPositionEmbeddings > 0
        else {
            throw ModelError("\(file): sizes must be above zero and hidden_size a multiple of num_attention_heads")
        }
        // Transformers 5 writes the keys without the prefix, earlier versions with it.
        let store = try folder.parameters(dtype: .float32, device: device) { $0.hasPrefix("text_model.") ? String($0.dropFirst(11)) : $0 }
        let scope = store.root
        tokenEmbedding = Embedding(c.vocabSize, c.hiddenSize, scope / "embeddings" / "token_embedding")
        positionEmbedding = Embedding(c.maxPositionEmbeddings, c.hiddenSize, scope / "embeddings" / "position_embedding")
        layers = (0..<c.numHiddenLayers).map {
            Layer(
                c.hiddenSize, c.intermediateSize, heads: c.numAttentionHeads, eps: c.layerNormEps ?? 1e-5, activation,
                scope / "encoder" / "layers" / $0)
        }
        finalNorm = LayerNorm(c.hiddenSize, eps: c.layerNormEps ?? 1e-5, scope / "final_layer_norm")
        maxLength = c.maxPositionEmbeddings
        hiddenSize = c.hiddenSize
        vocabularySize = c.vocabSize
        self.device = device
        try store.finish { $0.hasSuffix("position_ids") || $0 == "text_projection.weight" }
    }

    /// The last hidden state after the final norm, float32 [B, L, hiddenSize].
    /// - Parameter ids: token ids, B lists of equal length L of at most `maxLength`.
    public func callAsFunction(_ ids: [[Int]]) throws -> Tensor {
        let length = ids.first?.count ?? 0
        guard length > 0, length <= maxLength, ids.allSatisfy({ $0.count == length && $0.allSatisfy { 0 <= $0 && $0 < vocabularySize } })
        else {
            throw ModelError("token ids must be lists of one length of 1 to \(maxLength) with ids below \(vocabularySize)")
        }
        let tokens = Tensor(ids.joined().map(Int64.init), shape: [ids.count, length], device: device)
        let x = tokenEmbedding(tokens) + positionEmbedding(Tensor.arange(length, device: device))
        return finalNorm(layers.reduce(x) { $1($0) })
    }

    /// One pre-norm transformer layer with causal attention.
    private struct Layer {
        let norm1, norm2: LayerNorm
        let q, k, v, out, fc1, fc2: Linear
        let heads: Int
        let activation: Activation

        init(_ size: Int, _ inner: Int, heads: Int, eps: Double, _ activation: Activation, _ scope: Scope) {
            norm1 = LayerNorm(size, eps: eps, scope / "layer_norm1")
            q = Linear(size, size, scope / "self_attn" / "q_proj")
            k = Linear(size, size, scope / "self_attn" / "k_proj")
            v = Linear(size, size, scope / "self_attn" / "v_proj")
            out = Linear(size, size, scope / "self_attn" / "out_proj")
            norm2 = LayerNorm(size, eps: eps, scope / "layer_norm2")
            fc1 = Linear(size, inner, scope / "mlp" / "fc1")
            fc2 = Linear(inner, size, scope / "mlp" / "fc2")
            self.heads = heads
            self.activation = activation
        }

        func callAsFunction(_ x: Tensor) -> Tensor {
            func split(_ y: Tensor) -> Tensor { y.reshape([y.size(0), y.size(1), heads, y.size(2) / heads]).transpose(1, 2) }
            let h = norm1(x)
            let attended = Tensor.attention(split(q(h)), split(k(h)), split(v(h)), causal: true)
            let y = x + out(attended.transpose(1, 2).reshape(x.shape))
            return y + fc2(activation(fc1(norm2(y))))
        }
    }
}
