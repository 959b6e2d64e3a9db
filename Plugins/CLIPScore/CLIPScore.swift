import CDAGCore
import Foundation
import Models
import RewardPluginKit
import Tensors

/// CLIPScore: how well an image fits its prompt, by any CLIP. Source: Hessel et al. 2021 (arXiv 2104.08718); scaled as
/// in torchmetrics.
final class CLIPScore: NeuralReward {
    static let card = RewardCard(
        name: "clipscore", version: "1.0.0", description: "how well an image fits its prompt, by CLIP",
        license: "Apache-2.0 AND MIT", source: "arXiv 2104.08718, https://github.com/openai/CLIP",
        objectives: [
            ("clipscore", "100 times the cosine of image and prompt, 0 if that is negative; about 15 to 35"),
            ("cosine", "cosine of image and prompt, about 0.15 to 0.35"),
        ],
        weights: "folder of a CLIP such as openai/clip-vit-large-patch14 from Hugging Face: config.json, model.safetensors, "
            + "preprocessor_config.json and the tokenizer's files")

    private let clip: CLIPFolder

    init(_ settings: NeuralSettings) throws { clip = try CLIPFolder(settings, Self.card.weights) }

    var summary: String { "\(clip.model.configuration)" }

    func score(_ images: BorrowedImages, prompts: [String]) throws -> [Float] {
        try clip.cosines(images, prompts: prompts).array().flatMap { [$0 < 0 ? 0 : 100 * $0, $0] }
    }
}

/// The entry of a plugin, see `dag_reward.h`.
@_cdecl("dag_reward_entry")
package func entry(
    _ host: UnsafePointer<dag_reward_host>, _ plugin: UnsafeMutablePointer<UnsafePointer<dag_reward_plugin>?>,
    _ error: UnsafeMutablePointer<dag_reward_error>
) -> Int32 { rewardEntry(CLIPScore.self, host, plugin, error) }
