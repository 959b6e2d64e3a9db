import CDAGCore
import Foundation
import Models
import RewardPluginKit
import Tensors

/// ImageReward 1.0. Source: Xu et al. 2023 (arXiv 2304.05977), THUDM/ImageReward.
final class ImageReward: NeuralReward {
    static let card = RewardCard(
        name: "imagereward", version: "1.0.0", description: "how people would rate an image for its prompt, by ImageReward",
        license: "Apache-2.0", source: "arXiv 2304.05977, https://github.com/THUDM/ImageReward",
        objectives: [("imagereward", "standardised rating, about -2 to 2")],
        weights: "ImageReward.pt, from THUDM/ImageReward on Hugging Face",
        options: [("vocabulary", "", "vocab.txt of bert-base-uncased; if not given, the one beside the weights")])

    private let model: ImageRewardModel
    private let tokenizer: WordPieceTokenizer
    private let log: (String) -> Void
    private var saidCuts = false

    init(_ settings: NeuralSettings) throws {
        log = settings.log
        let weights = try settings.file("weights", Self.card.weights)
        let vocabulary = try settings.file(
            "vocabulary", orElse: "vocab.txt", beside: weights, "vocab.txt of google-bert/bert-base-uncased on Hugging Face")
        tokenizer = try WordPieceTokenizer(vocabulary: vocabulary, added: ["[DEC]", "[ENC]"])
        model = try ImageRewardModel(weights: weights, dtype: settings.dtype, device: settings.device)
        guard tokenizer.size == model.vocabularySize else {
            throw ModelError(
                "\(vocabulary.path): has \(tokenizer.size) tokens with [DEC] and [ENC], not the \(model.vocabularySize) of "
                    + "\(weights.path): it is another vocabulary, or cut short")
        }
        // A vocabulary of the published size must be
        // bert-base-uncased's, with the special tokens in their places.
        let special = [tokenizer.unknown, tokenizer.start, tokenizer.end]
        guard tokenizer.size != 30524 || special == [100, 101, 102] else {
            throw ModelError(
                "\(vocabulary.path): is not bert-base-uncased's: [UNK], [CLS] and [SEP] are \(special), not 100, 101 and 102")
        }
        if !model.isPublished { settings.log("warning: the scores are not the published ones: \(weights.path) has other sizes") }
        if !model.unused.isEmpty {
            let example = "\(model.unused.count), such as \(model.unused[0])"
            settings.log("\(weights.path): tensors that the model does not use are ignored: \(example)")
        }
    }

    var summary: String { "\(model)" }

    func score(_ images: BorrowedImages, prompts: [String]) throws -> [Float] {
        let length = ImageRewardModel.promptLength
        if !saidCuts,
            let line = CutTexts.line(
                prompts, length: length, tokens: { Array(tokenizer.encode($0, maxLength: .max).dropFirst().dropLast()) })
        {
            saidCuts = true
            log("warning: of a batch, \(line)")
        }
        return try model(
            images.clipInput(size: model.imageSize),
            ids: prompts.map { tokenizer.encode($0, maxLength: length) })
    }
}

/// The entry of a plugin, see `dag_reward.h`.
@_cdecl("dag_reward_entry")
package func entry(
    _ host: UnsafePointer<dag_reward_host>, _ plugin: UnsafeMutablePointer<UnsafePointer<dag_reward_plugin>?>,
    _ error: UnsafeMutablePointer<dag_reward_error>
) -> Int32 { rewardEntry(ImageReward.self, host, plugin, error) }
