import Foundation
import NN
import Tensors

/// transformers' CLIPVisionModelWithProjection: CLIP's image embeddings, for example those of
/// openai/clip-vit-large-patch14.
package final class CLIPVisionModel {
    /// transformers' CLIPConfig, of which the vision part is used, or a CLIPVisionConfig by itself.
    private struct File: Decodable {
        let architectures: [String]?
        let visionConfig, visionConfigDict: CLIPVisionConfiguration?
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
        let part = file.visionConfigDict ?? file.visionConfig
        let c = try part ?? folder.decode(CLIPVisionConfiguration.self)
        activation = try c.validate(name)
        sizes = c.sizes
        embeddingSize = (part == nil ? c.projectionDim : file.projectionDim) ?? 512
        guard embeddingSize > 0 else {
            throw ModelError("\(name): projection_dim \(embeddingSize) is not above zero")
        }
        // Some versions of transformers write the keys without the prefix.
        let store = try folder.parameters(dtype: dtype, device: device) {
            $0.hasPrefix("vision_model.") ? String($0.dropFirst("vision_model.".count)) : $0
        }
        tower = CLIPVisionTower(
            sizes, embedding: embeddingSize, eps: c.eps, activation, store.root,
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
