import CDAGCore
import Foundation
import Models
import NN
import RewardPluginKit
import Tensors

/// The LAION aesthetic score, version 2: a linear head on
/// the length-normalised image embedding of CLIP ViT-L/14.
/// Source: christophschuhmann/improved-aesthetic-predictor.
final class Aesthetic: NeuralReward {
    static let card = RewardCard(
        name: "aesthetic", version: "1.1.0", description: "how much people like the look of an image, by LAION's predictor",
        license: "Apache-2.0 AND MIT", source: "https://github.com/christophschuhmann/improved-aesthetic-predictor",
        objectives: [("aesthetic", "predicted rating, about 1 to 10")],
        weights: "sac+logos+ava1-l14-linearMSE.pth, from the repository above",
        options: [("clip", "", "folder of openai/clip-vit-large-patch14 from Hugging Face: config.json and model.safetensors")])

    private let clip: CLIPVisionModel
    private let head: RatingHead
    private let device: Device

    init(_ settings: NeuralSettings) throws {
        let weights = try settings.file("weights", Self.card.weights)
        let folder = try settings.folder("clip", Self.card.options[0].description)
        device = settings.device
        let tensors = try TensorFile(contentsOf: weights).tensors
        clip = try CLIPVisionModel(folder: folder, dtype: settings.dtype, device: device)
        if let width = tensors["layers.0.weight"]?.shape.last, width != clip.embeddingSize {
            throw ModelError(
                "\(weights.path): rates embeddings of \(width) numbers, \(folder.url.path) gives \(clip.embeddingSize)")
        }
        let store = ParameterStore(checkpoint: tensors, origin: weights.path, dtype: .float32, device: device)
        head = RatingHead(clip.embeddingSize, store.root / "layers")
        try store.finish()
        if clip.sizes != .vitL14 || clip.activation != .quickGELU || clip.embeddingSize != 768 {
            settings.log("warning: the scores are not the published ones: \(folder.url.path) is not openai/clip-vit-large-patch14")
        }
    }

    var summary: String { "CLIP's \(clip.sizes), \(clip.activation.rawValue)" }

    /// Crops as `CLIPProcessor` does, which DDPO and DAG use:
    /// on images that are not square it rounds the offset down.
    func score(_ images: BorrowedImages, prompts: [String]) throws -> [Float] {
        try head(clip(images.clipInput(size: clip.imageSize, cropOffset: .down).to(device)).normalize()).array()
    }
}

/// The entry of a plugin, see `dag_reward.h`.
@_cdecl("dag_reward_entry")
package func entry(
    _ host: UnsafePointer<dag_reward_host>, _ plugin: UnsafeMutablePointer<UnsafePointer<dag_reward_plugin>?>,
    _ error: UnsafeMutablePointer<dag_reward_error>
) -> Int32 { rewardEntry(Aesthetic.self, host, plugin, error) }
