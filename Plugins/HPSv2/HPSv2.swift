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

    private let model: OpenCLIPModel
    private let tokenizer: CLIPTokenizer
    private let device: Device
    private var embeddings = TextCache<Tensor>()
    private let log: (String) -> Void
    private var saidCuts = false

    init(_ settings: NeuralSettings) throws {
        log = settings.log
        let weights = try settings.file("weights", Self.card.weights)
        let vocabulary = try settings.file(
            "vocabulary", orElse: Self.vocabularyName, beside: weights,
            "open_clip's \(Self.vocabularyName), from https://github.com/openai/CLIP/raw/main/clip/\(Self.vocabularyName)")
        device = settings.device
        model = try OpenCLIPModel(weights: weights, dtype: settings.dtype, device: device)
        let text = model.configuration.text
        tokenizer = try CLIPTokenizer(openCLIP: vocabulary, maxLength: text.contextLength)
        guard tokenizer.vocabularySize == text.vocabularySize else {
            throw ModelError(
                "\(vocabulary.path): has \(tokenizer.vocabularySize) tokens, not the \(text.vocabularySize) of \(weights.path): "
                    + "it is another vocabulary, or cut short")
        }
        if model.configuration != .vitH14 {
            settings.log("warning: the scores are not the published ones: \(weights.path) is not HPSv2's ViT-H-14")
        }
    }

    var summary: String { "\(model.configuration)" }

    func score(_ images: HostImages, prompts: [String]) throws -> [Float] {
        if !saidCuts, let line = tokenizer.cutLine(prompts) {
            saidCuts = true
            log("warning: of a batch, \(line)")
        }
        let imageFeatures = try model.imageFeatures(images.longSideInput(size: model.configuration.vision.imageSize).to(device))
        let textFeatures = try embeddings.values(prompts) { new in
            let ids = new.map(tokenizer.encode)
            // The tower is causal, so tokens after the last end token can be left out.
            let length = ids.map { $0.firstIndex(of: tokenizer.endOfTextID)! + 1 }.max()!
            let features = try model.textFeatures(ids.map { Array($0.prefix(length)) })
            return new.indices.map { features.select(0, $0) }
        }
        return try (imageFeatures * Tensor.stack(textFeatures, 0)).sum([-1]).array()
    }
}

/// The entry of a plugin, see `dag_reward.h`.
@_cdecl("dag_reward_entry")
package func entry(
    _ host: UnsafePointer<dag_reward_host>, _ plugin: UnsafeMutablePointer<UnsafePointer<dag_reward_plugin>?>,
    _ error: UnsafeMutablePointer<dag_reward_error>
) -> Int32 { rewardEntry(HPSv2.self, host, plugin, error) }
