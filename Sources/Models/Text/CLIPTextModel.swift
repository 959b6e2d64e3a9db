import Foundation
import NN
import Tensors

/// transformers' CLIPTextModel: the text encoder of Stable Diffusion 1.x and 2.x.
package final class CLIPTextModel {
    private struct Configuration: Decodable {
        let architectures: [String]?
        let vocabSize, hiddenSize, intermediateSize, numHiddenLayers, numAttentionHeads, maxPositionEmbeddings: Int
        let hiddenAct: String
        let layerNormEps: Double
    }

    private static let defaults = ReferenceDefaults([
        "vocab_size": 49408, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8,
        "max_position_embeddings": 77, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
    ])

    /// The number of tokens of a prompt, padding included.
    package let maxLength: Int
    /// The width of the embedding.
    package let hiddenSize: Int
    private let vocabularySize: Int
    private let tokenEmbedding, positionEmbedding: Embedding
    private let layers: [CLIPLayer]
    private let finalNorm: LayerNorm
    private let device: Device

    /// Loads configuration and weights, frozen and in float32, from a folder in diffusers layout.
    /// - Throws: `ModelError` or `TensorFileError` that names the file.
    package init(folder: ModelFolder, device: Device = .cpu) throws {
        let file = folder.url.appendingPathComponent("config.json").path
        if try folder.object()["text_config"] != nil {
            throw ModelError("\(file): the configuration of a whole CLIP (text_config); save its text model alone: CLIPTextModel")
        }
        let c = try folder.decode(Configuration.self, Self.defaults)
        if let architecture = c.architectures?.first, !["CLIPTextModel", "CLIPTextModelWithProjection"].contains(architecture) {
            throw ModelError("\(file): text encoder '\(architecture)' is not supported (CLIPTextModel is)")
        }
        guard let activation = Activation(rawValue: c.hiddenAct) else {
            throw ModelError("\(file): hidden_act '\(c.hiddenAct)' is not supported")
        }
        guard [c.vocabSize, c.hiddenSize, c.intermediateSize, c.maxPositionEmbeddings].allSatisfy(SizeLimits.widths.contains),
            c.numAttentionHeads > 0, c.hiddenSize % c.numAttentionHeads == 0, 1...1000 ~= c.numHiddenLayers
        else {
            throw ModelError(
                "\(file): sizes must be from 1 to \(SizeLimits.widths.upperBound), at most 1000 layers, "
                    + "and hidden_size a multiple of num_attention_heads")
        }
        // Transformers 5 writes the keys without the prefix, earlier versions with it.
        let store = try folder.parameters(dtype: .float32, device: device) {
            $0.hasPrefix("text_model.") ? String($0.dropFirst("text_model.".count)) : $0
        }
        let scope = store.root
        tokenEmbedding = Embedding(c.vocabSize, c.hiddenSize, scope / "embeddings" / "token_embedding")
        positionEmbedding = Embedding(c.maxPositionEmbeddings, c.hiddenSize, scope / "embeddings" / "position_embedding")
        layers = (0..<c.numHiddenLayers).map {
            CLIPLayer(
                c.hiddenSize, c.intermediateSize, heads: c.numAttentionHeads, eps: c.layerNormEps, activation,
                scope / "encoder" / "layers" / $0)
        }
        finalNorm = LayerNorm(c.hiddenSize, eps: c.layerNormEps, scope / "final_layer_norm")
        maxLength = c.maxPositionEmbeddings
        hiddenSize = c.hiddenSize
        vocabularySize = c.vocabSize
        self.device = device
        try store.finish { $0.hasSuffix("position_ids") || $0 == "text_projection.weight" }
    }

    /// Returns the last hidden state after the final norm, float32 [B, L, hiddenSize].
    /// - Parameter ids: token ids, B lists of equal length L of at most `maxLength`.
    /// - Throws: `ModelError` if lengths or ids do not fit.
    package func callAsFunction(_ ids: [[Int]]) throws -> Tensor {
        let length = ids.first?.count ?? 0
        guard length > 0, length <= maxLength,
            ids.allSatisfy({ $0.count == length && $0.allSatisfy { 0 <= $0 && $0 < vocabularySize } })
        else {
            throw ModelError("token ids must be lists of one length of 1 to \(maxLength) with ids below \(vocabularySize)")
        }
        let tokens = Tensor(ids.joined().map(Int64.init), shape: [ids.count, length], device: device)
        let x = tokenEmbedding(tokens) + positionEmbedding(Tensor.arange(length, device: device))
        return finalNorm(layers.reduce(x) { $1($0, causal: true) })
    }
}
