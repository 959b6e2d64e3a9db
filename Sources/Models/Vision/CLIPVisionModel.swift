import Foundation
import NN
import Tensors

/// transformers' CLIPVisionModelWithProjection: CLIP's image embeddings, for example those of
/// openai/clip-vit-large-patch14.
package final class CLIPVisionModel {
    /// transformers' CLIPVisionConfig. Files may leave values out; the defaults are transformers' own.
    private struct Configuration: Decodable {
        let hiddenSize, intermediateSize, numHiddenLayers, numAttentionHeads, numChannels, imageSize, patchSize, projectionDim: Int?
        let hiddenAct: String?
        let layerNormEps: Double?
    }

    /// transformers' CLIPConfig, of which the vision part is used, or a CLIPVisionConfig by itself.
    private struct File: Decodable {
        let architectures: [String]?
        let visionConfig: Configuration?
        let projectionDim: Int?
    }

    /// The height and width of the images, in pixels.
    package var imageSize: Int { sizes.imageSize }
    /// The length of an embedding.
    package let embeddingSize: Int
    /// The sizes of the transformer.
    package let sizes: VisionSizes
    /// The activation of the MLPs.
    package let activation: Activation
    private let tower: CLIPVisionTower

    /// Loads configuration and weights of a whole CLIPModel or of a CLIPVisionModelWithProjection, frozen.
    /// - Parameter dtype: the type to compute in.
    /// - Throws: `ModelError` or `TensorFileError` that names the file.
    package init(folder: ModelFolder, dtype: DType = .float32, device: Device = .cpu) throws {
        let name = folder.url.appendingPathComponent("config.json").path
        let file = try folder.decode(File.self)
        if let architecture = file.architectures?.first,
            !["CLIPModel", "CLIPVisionModelWithProjection"].contains(architecture)
        {
            throw ModelError("\(name): '\(architecture)' is not supported (CLIPModel and CLIPVisionModelWithProjection are)")
        }
        let c = try file.visionConfig ?? folder.decode(Configuration.self)
        let activationName = c.hiddenAct ?? Activation.quickGELU.rawValue
        guard let activation = Activation(rawValue: activationName) else {
            throw ModelError("\(name): hidden_act '\(activationName)' is not supported")
        }
        sizes = VisionSizes(
            width: c.hiddenSize ?? 768, inner: c.intermediateSize ?? 3072, layers: c.numHiddenLayers ?? 12,
            heads: c.numAttentionHeads ?? 12, imageSize: c.imageSize ?? 224, patchSize: c.patchSize ?? 32)
        try sizes.validate(name)
        embeddingSize = (file.visionConfig == nil ? c.projectionDim : file.projectionDim) ?? 512
        guard embeddingSize > 0 else {
            throw ModelError("\(name): projection_dim \(embeddingSize) is not above zero")
        }
        self.activation = activation
        guard c.numChannels ?? 3 == 3 else {
            throw ModelError("\(name): num_channels \(c.numChannels!) is not supported (3 is)")
        }
        // Some versions of transformers write the keys without the prefix.
        let store = try folder.parameters(dtype: dtype, device: device) {
            $0.hasPrefix("vision_model.") ? String($0.dropFirst("vision_model.".count)) : $0
        }
        tower = CLIPVisionTower(
            sizes, embedding: embeddingSize, eps: c.layerNormEps ?? 1e-5, activation, store.root,
            projection: store.root / "visual_projection")
        // A whole CLIPModel has a text tower too, which is not needed.
        try store.finish {
            $0.hasPrefix("text_model.") || $0 == "text_projection.weight" || $0 == "logit_scale" || $0.hasSuffix("position_ids")
        }
    }

    /// Returns the outputs of the projection, not normalised: float32 [n, embeddingSize].
    /// - Parameter images: float32 [n, 3, imageSize, imageSize],
    ///   already normalised with CLIP's mean and deviation.
    /// - Throws: `ModelError` if the images have another shape or type.
    package func callAsFunction(_ images: Tensor) throws -> Tensor { try tower(images) }
}
