import Foundation
import NN
import Tensors

/// open_clip's CLIP with both towers, for example the ViT-H-14 of HPSv2. Parameters have open_clip's names.
///
/// Source: Radford et al. 2021 (CLIP), Cherti et al. 2022 (OpenCLIP).
package final class OpenCLIPModel {
    /// The sizes, read from the weights.
    package let configuration: OpenCLIPConfiguration
    private let visual: CLIPVisionTower
    private let tokenEmbedding: Embedding
    private let positions, textProjection: Tensor
    private let layers: [CLIPLayer]
    private let finalNorm: LayerNorm
    private let device: Device

    /// Loads weights, frozen.
    ///
    /// The activation of the MLPs cannot be read from weights.
    /// It is GELU here, as in all CLIPs but OpenAI's own.
    /// - Parameters:
    ///   - weights: a `.safetensors` file, or a torch.save file with a state dict at its top or under
    ///     `state_dict`. A prefix `module.` is dropped.
    ///   - dtype: the type to compute in.
    /// - Throws: `ModelError` or `TensorFileError`, one line
    ///   that lists missing, superfluous and misshapen tensors.
    package init(weights: URL, dtype: DType = .float32, device: Device = .cpu) throws {
        let tensors = try Self.stateDict(weights)
        configuration = try OpenCLIPConfiguration(
            CheckpointShapes(tensors: tensors, origin: weights.path, owner: "open_clip's"))
        let text = configuration.text
        let store = ParameterStore(checkpoint: tensors, origin: weights.path, dtype: dtype, device: device)
        let scope = store.root
        visual = CLIPVisionTower(openCLIP: configuration.vision, embedding: configuration.embedding, .gelu, scope / "visual")
        tokenEmbedding = Embedding(text.vocabularySize, text.width, scope / "token_embedding")
        positions = scope.parameter("positional_embedding", [text.contextLength, text.width], .normal(0.01))
        layers = (0..<text.layers).map {
            CLIPLayer(openCLIP: text.width, text.inner, heads: text.heads, .gelu, scope / "transformer" / "resblocks" / $0)
        }
        finalNorm = LayerNorm(text.width, scope / "ln_final")
        textProjection = scope.parameter("text_projection", [text.width, configuration.embedding], .fanIn(text.width))
        // Only training uses the scale of the logits; some versions store the causal mask as well.
        try store.finish { ["logit_scale", "attn_mask"].contains($0) }
        self.device = device
    }

    /// Returns image embeddings of length one, float32 [n, embedding].
    /// - Parameter images: float32 [n, 3, imageSize, imageSize],
    ///   already normalised with CLIP's mean and deviation.
    /// - Throws: `ModelError` if the images have another shape or type; `TensorError` if an operation failed.
    package func imageFeatures(_ images: Tensor) throws -> Tensor {
        let features = try visual(images).normalize()
        try TensorError.check()
        return features
    }

    /// Returns text embeddings of length one, float32 [n, embedding]: the last layer's output at each text's
    /// end token, which is the one with the highest id.
    /// - Parameter ids: token ids, n lists of equal length of at most `contextLength`, end token included.
    /// - Throws: `ModelError` if lengths or ids do not fit; `TensorError` if an operation failed.
    package func textFeatures(_ ids: [[Int]]) throws -> Tensor {
        let maxLength = configuration.text.contextLength
        let vocabularySize = configuration.text.vocabularySize
        let length = ids.first?.count ?? 0
        guard length > 0, length <= maxLength,
            ids.allSatisfy({ $0.count == length && $0.allSatisfy { 0 <= $0 && $0 < vocabularySize } })
        else {
            throw ModelError("token ids must be lists of one length of 1 to \(maxLength) with ids below \(vocabularySize)")
        }
        let tokens = Tensor(ids.joined().map(Int64.init), shape: [ids.count, length], device: device)
        let x = tokenEmbedding(tokens) + positions.narrow(0, 0, length)
        let y = layers.reduce(x) { $1($0, causal: true) }
        let ends = ids.enumerated().map { text, ids in text * length + ids.firstIndex(of: ids.max()!)! }
        let features = finalNorm(y.reshape([ids.count * length, configuration.text.width]).rows(ends)).matmul(textProjection)
            .to(.float32).normalize()
        try TensorError.check()
        return features
    }

    private static func stateDict(_ file: URL) throws -> [String: Tensor] {
        let all = try TensorFile(contentsOf: file).tensors
        // A training checkpoint holds optimisers and counters beside the weights.
        let tensors = all.keys.contains { $0.hasPrefix("state_dict.") } ? under("state_dict.", all) : all
        return tensors.keys.allSatisfy { $0.hasPrefix("module.") } ? under("module.", tensors) : tensors
    }

    private static func under(_ prefix: String, _ tensors: [String: Tensor]) -> [String: Tensor] {
        var result: [String: Tensor] = [:]
        for (name, tensor) in tensors where name.hasPrefix(prefix) { result[String(name.dropFirst(prefix.count))] = tensor }
        return result
    }
}
