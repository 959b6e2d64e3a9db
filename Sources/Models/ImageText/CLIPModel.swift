import Foundation
import NN
import Tensors

/// CLIP with both towers, for example the ViT-H-14 of HPSv2 and PickScore. Parameters have open_clip's names or
/// transformers'.
///
/// Source: Radford et al. 2021 (CLIP), Cherti et al. 2022 (OpenCLIP).
package final class CLIPModel {
    /// The sizes, read from open_clip's weights or from transformers' config.json.
    package let configuration: CLIPConfiguration
    /// The token at which a text's features are read.
    private let end: CLIPTextEnd
    private let visual: CLIPVisionTower
    private let text: CLIPTextTower
    /// The matrix that makes embeddings of the text tower's output, [width, embedding].
    private let textProjection: Tensor
    /// The logarithm of the factor that training multiplies cosines with, float32 [].
    private let logitScale: Tensor
    private let device: Device

    /// Loads open_clip's weights, frozen.
    /// - Parameters:
    ///   - weights: a `.safetensors` file, or a torch.save file with a state dict at its top or under
    ///     `state_dict`. A prefix `module.` is dropped.
    ///   - dtype: the type to compute in.
    /// - Throws: `ModelError` or `TensorFileError`, one line
    ///   that lists missing, superfluous and misshapen tensors.
    package init(openCLIP weights: URL, dtype: DType = .float32, device: Device = .cpu) throws {
        let tensors = try Self.stateDict(weights)
        let c = try CLIPConfiguration(openCLIP: CheckpointShapes(tensors: tensors, origin: weights.path, owner: "open_clip's"))
        let store = ParameterStore(checkpoint: tensors, origin: weights.path, dtype: dtype, device: device)
        let scope = store.root
        visual = CLIPVisionTower(openCLIP: c.vision, embedding: c.embedding, c.activation, scope / "visual")
        text = CLIPTextTower(openCLIP: c.text, c.activation, scope)
        textProjection = scope.parameter("text_projection", [c.text.width, c.embedding], .fanIn(c.text.width))
        logitScale = scope.parameter("logit_scale", [], .zeros, dtype: .float32)
        // Some versions store the causal mask as well.
        try store.finish { $0 == "attn_mask" }
        configuration = c
        end = .highestID
        self.device = device
    }

    /// Loads a CLIPModel as transformers saves it, frozen.
    /// - Parameter dtype: the type to compute in.
    /// - Throws: `ModelError` or `TensorFileError` that names the file.
    package init(folder: ModelFolder, dtype: DType = .float32, device: Device = .cpu) throws {
        let name = folder.url.appendingPathComponent("config.json").path
        let file = try folder.decode(File.self)
        if let architecture = file.architectures?.first, architecture != "CLIPModel" {
            throw ModelError("\(name): '\(architecture)' is not supported (CLIPModel is)")
        }
        guard let vision = file.visionConfigDict ?? file.visionConfig, let language = file.textConfigDict ?? file.textConfig else {
            throw ModelError("\(name): no text_config with vision_config, so it is not the configuration of a whole CLIP (CLIPModel)")
        }
        let activation = try vision.validate(name)
        guard try language.validate(name) == activation else {
            throw ModelError("\(name): two towers with different values of hidden_act are not supported")
        }
        guard let eosTokenID = language.eosTokenID else {
            throw ModelError("\(name): text_config's eos_token_id must be one number")
        }
        let c = CLIPConfiguration(
            embedding: file.projectionDim ?? 512, activation: activation, vision: vision.sizes, text: language.sizes)
        guard SizeLimits.widths.contains(c.embedding) else {
            throw ModelError("\(name): projection_dim \(c.embedding) is not from 1 to \(SizeLimits.widths.upperBound)")
        }
        let store = try folder.parameters(dtype: dtype, device: device)
        let scope = store.root
        visual = CLIPVisionTower(
            c.vision, embedding: c.embedding, eps: vision.eps, activation, scope / "vision_model",
            projection: scope / "visual_projection")
        text = CLIPTextTower(c.text, eps: language.eps, activation, scope / "text_model")
        textProjection = (scope / "text_projection").parameter("weight", [c.embedding, c.text.width], .fanIn(c.text.width)).transpose(0, 1)
        logitScale = scope.parameter("logit_scale", [], .zeros, dtype: .float32)
        try store.finish { $0.hasSuffix("position_ids") }
        configuration = c
        end = CLIPTextEnd(eosTokenID: eosTokenID)
        self.device = device
    }

    /// Returns image embeddings of length one, float32 [n, embedding].
    /// - Parameter images: float32 [n, 3, imageSize, imageSize],
    ///   already normalised with CLIP's mean and deviation.
    /// - Throws: `ModelError` if the images have another shape or type; `TensorError` if an operation failed.
    package func imageFeatures(_ images: Tensor) throws -> Tensor {
        let features = try visual(images.to(device)).normalize()
        try TensorError.check()
        return features
    }

    /// Returns text embeddings of length one, float32 [n, embedding].
    /// - Parameter ids: token ids, n lists of equal length of at most `contextLength`, end token included.
    /// - Throws: `ModelError` if lengths or ids do not fit; `TensorError` if an operation failed.
    package func textFeatures(_ ids: [[Int]]) throws -> Tensor {
        let features = try text(ids, at: end).matmul(textProjection).to(.float32).normalize()
        try TensorError.check()
        return features
    }

    /// Whether texts that end in this token can be embedded.
    package func isEnd(_ id: Int) -> Bool { end == .highestID || end == .id(id) }

    /// Returns the factor that training multiplies cosines with, about 100 in published models.
    /// - Throws: `TensorError` if an operation failed.
    package func logitFactor() throws -> Float { try logitScale.exp().array(Float.self)[0] }
}

extension CLIPModel {
    /// transformers' CLIPConfig. Of a part that is there twice, with `_dict` in its name and without, transformers
    /// reads the first.
    private struct File: Decodable {
        let architectures: [String]?
        let textConfig, textConfigDict: CLIPTextConfiguration?
        let visionConfig, visionConfigDict: CLIPVisionConfiguration?
        let projectionDim: Int?
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
