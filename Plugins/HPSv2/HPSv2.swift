import CDAGCore
import Foundation
import Models
import RewardPluginKit
import Tensors

/// Human Preference Score v2 and v2.1: the dot product of the embeddings of
/// an image and its prompt, by a CLIP ViT-H-14 that was trained on people's
/// preferences. Source: Wu et al. 2023 (arXiv 2306.09341), tgxs002/HPSv2.
final class HPSv2: NeuralReward {
    static let card = RewardCard(
        name: "hps", version: "1.0.0", description: "how well an image fits its prompt and people's taste, by Human Preference Score v2",
        license: "Apache-2.0", source: "arXiv 2306.09341, https://github.com/tgxs002/HPSv2",
        objectives: [("hps", "cosine of image and prompt, about 0.2 to 0.35")],
        weights: "HPS_v2_compressed.pt or HPS_v2.1_compressed.pt, from xswu/HPSv2 on Hugging Face",
        options: [("vocabulary", "", "\(vocabularyName); if not given, the one beside the weights")])

    private static let vocabularyName = "bpe_simple_vocab_16e6.txt.gz"

    private let model: CLIPModel
    private let cosines: CLIPCosines

    init(_ settings: NeuralSettings) throws {
        let weights = try settings.file("weights", Self.card.weights)
        let vocabulary = try settings.file(
            "vocabulary", orElse: Self.vocabularyName, beside: weights,
            "open_clip's \(Self.vocabularyName), from https://github.com/openai/CLIP/raw/main/clip/\(Self.vocabularyName)")
        model = try CLIPModel(openCLIP: weights, dtype: settings.dtype, device: settings.device)
        let text = model.configuration.text
        let tokenizer = try CLIPTokenizer(openCLIP: vocabulary, maxLength: text.contextLength)
        guard tokenizer.vocabularySize == text.vocabularySize else {
            throw ModelError(
                "\(vocabulary.path): has \(tokenizer.vocabularySize) tokens, not the \(text.vocabularySize) of \(weights.path): "
                    + "it is another vocabulary, or cut short")
        }
        cosines = CLIPCosines(model, tokenizer, log: settings.log)
        if model.configuration != .vitH14 {
            settings.log("warning: the scores are not the published ones: \(weights.path) is not HPSv2's ViT-H-14")
        }
    }

    var summary: String { "\(model.configuration)" }

    func score(_ images: BorrowedImages, prompts: [String]) throws -> [Float] {
        try cosines(images.longSideInput(size: model.configuration.vision.imageSize), prompts: prompts).array()
    }
}

/// The entry of a plugin, see `dag_reward.h`.
@_cdecl("dag_reward_entry")
package func entry(
    _ host: UnsafePointer<dag_reward_host>, _ plugin: UnsafeMutablePointer<UnsafePointer<dag_reward_plugin>?>,
    _ error: UnsafeMutablePointer<dag_reward_error>
) -> Int32 { rewardEntry(HPSv2.self, host, plugin, error) }
