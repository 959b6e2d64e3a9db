import CDAGCore
import Foundation
import Models
import RewardPluginKit
import Tensors

/// PickScore: CLIP's logit of an image and its prompt, by a ViT-H-14 that was trained on people's choices.
/// Source: Kirstain et al. 2023 (arXiv 2305.01569), yuvalkirstain/PickScore.
final class PickScore: NeuralReward {
    static let card = RewardCard(
        name: "pickscore", version: "1.0.0", description: "how likely people are to pick an image for its prompt, by PickScore",
        license: "Apache-2.0 AND LicenseRef-PickScore", source: "arXiv 2305.01569, https://github.com/yuvalkirstain/PickScore",
        objectives: [("pickscore", "cosine of image and prompt, times about 100; about 17 to 24")],
        weights: "folder of yuvalkirstain/PickScore_v1 from Hugging Face: config.json and model.safetensors, with "
            + "preprocessor_config.json and the tokenizer's files of laion/CLIP-ViT-H-14-laion2B-s32B-b79K")

    private let clip: CLIPFolder
    private let factor: Float

    init(_ settings: NeuralSettings) throws {
        clip = try CLIPFolder(settings, Self.card.weights)
        factor = try clip.model.logitFactor()
        if clip.model.configuration != .vitH14 {
            settings.log("warning: the scores are not the published ones: \(settings["weights"]) is not PickScore's ViT-H-14")
        }
    }

    var summary: String { "\(clip.model.configuration)" }

    func score(_ images: BorrowedImages, prompts: [String]) throws -> [Float] {
        try clip.cosines(images, prompts: prompts).array().map { factor * $0 }
    }
}

/// The entry of a plugin, see `dag_reward.h`.
@_cdecl("dag_reward_entry")
package func entry(
    _ host: UnsafePointer<dag_reward_host>, _ plugin: UnsafeMutablePointer<UnsafePointer<dag_reward_plugin>?>,
    _ error: UnsafeMutablePointer<dag_reward_error>
) -> Int32 { rewardEntry(PickScore.self, host, plugin, error) }
