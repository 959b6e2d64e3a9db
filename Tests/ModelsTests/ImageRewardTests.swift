import Foundation
import NN
import Tensors
import TestSupport
import Testing

@testable import Models

/// Against ImageReward's published classes at a small size, and transformers' BertTokenizer
/// (Tests/Goldens/rewards/make_imagereward_goldens.py and make_wordpiece_goldens.py).
@Suite struct ImageRewardTests {
    private struct Golden: Decodable {
        let shapes: [String: [Int]]
        let prompts: [String]
        let scores, scores_of_reversed_prompts: [Float]
    }

    private struct Tokens: Decodable {
        let texts: [String]
        let ids: [[Int]]
    }

    private static let folder = goldens.appendingPathComponent("rewards")

    private static func golden() throws -> Golden {
        try JSONDecoder().decode(Golden.self, from: Data(contentsOf: folder.appendingPathComponent("imagereward.json")))
    }

    private static func tokenizer(_ vocabulary: String = "imagereward_vocab.txt") throws -> WordPieceTokenizer {
        try WordPieceTokenizer(vocabulary: folder.appendingPathComponent(vocabulary), added: ["[DEC]", "[ENC]"])
    }

    /// Runs `body` with a file of these weights.
    private static func withFile<Result>(_ tensors: [String: Tensor], _ body: (URL) throws -> Result) throws -> Result {
        let folder = try TemporaryFolder()
        let file = folder.url.appendingPathComponent("imagereward.safetensors")
        try Safetensors.encode(tensors).write(to: file)
        return try body(file)
    }

    @Test(arguments: [.cpu] + otherDevices) func scoresAreThoseOfThePublishedCode(device: Device) throws {
        let golden = try Self.golden()
        let model = try Self.withFile(weightsByFormula(golden.shapes)) { try ImageRewardModel(weights: $0, device: device) }
        #expect(model.imageSize == 32)
        let pixels = (0..<4 * 3 * 32 * 32).map { Float(sin(0.1 * Double($0))) }
        let images = Tensor(pixels, shape: [4, 3, 32, 32])
        let ids = try golden.prompts.map { try Self.tokenizer().encode($0, maxLength: 35) }
        #expect(Set(golden.scores).count == 4, "a score that says nothing")
        for (prompts, expected) in [(ids, golden.scores), (ids.reversed(), golden.scores_of_reversed_prompts)] {
            let scores = try withoutGradients { try model(images, ids: Array(prompts)) }
            for (score, wanted) in zip(scores, expected) { #expect(abs(score - wanted) < 1e-4, "\(scores), expected \(expected)") }
        }
    }

    @Test func tokensAreThoseOfTransformers() throws {
        let golden = try JSONDecoder().decode(Tokens.self, from: Data(contentsOf: Self.folder.appendingPathComponent("wordpiece.json")))
        let tokenizer = try Self.tokenizer("wordpiece_vocab.txt")
        #expect(golden.texts.count == 1400)
        for (text, ids) in zip(golden.texts, golden.ids) {
            #expect(tokenizer.encode(text, maxLength: 35) == ids, "\(text.debugDescription)")
        }
        // Differences could hide behind [UNK]: only words of more than 100 characters are unknown.
        #expect(golden.ids.joined().filter { $0 == tokenizer.unknown }.count < 100)
    }

    /// Other tensors in a file are accepted, as by the published
    /// code; those of BLIP's training are not reported.
    @Test func othersTensorsAreReadOver() throws {
        var tensors = weightsByFormula(try Self.golden().shapes)
        for name in ["something.else", "blip.text_proj.weight"] { tensors[name] = Tensor.zeros([1]) }
        let model = try Self.withFile(tensors) { try ImageRewardModel(weights: $0) }
        #expect(model.unused == ["something.else"] && !model.isPublished)
    }

    @Test(.slow) func wrongFilesAreNamed() throws {
        let golden = try Self.golden()
        func problem(_ change: (inout [String: Tensor]) -> Void) throws -> String {
            var tensors = weightsByFormula(golden.shapes)
            change(&tensors)
            return try Self.withFile(tensors) { file in
                do { _ = try ImageRewardModel(weights: file) } catch { return "\(error)" }
                return ""
            }
        }
        #expect(
            try problem { $0["blip.text_encoder.encoder.layer.1.crossattention.self.key.weight"] = nil }.contains(
                "crossattention.self.key.weight"))
        #expect(try problem { $0["mlp.layers.7.weight"] = Tensor.zeros([1, 17]) }.contains("mlp.layers.7.weight"))
        #expect(try problem { $0 = ["weight": Tensor.zeros([1])] }.contains("it is not ImageReward's"))
        #expect(try problem { $0["blip.visual_encoder.blocks.9999999999.norm1.weight"] = Tensor.zeros([1]) }.contains("not numbered"))
        #expect(try problem { $0["blip.visual_encoder.pos_embed"] = Tensor.zeros([1, 1, 128]) }.contains("images of 0 patches"))
        #expect(
            try problem { $0["blip.text_encoder.embeddings.position_embeddings.weight"] = Tensor.zeros([34, 128]) }.contains(
                "room for 34 tokens"))
        #expect(try problem { $0["blip.vision_proj.weight"] = Tensor.zeros([1]) } == "")
        #expect(
            try problem { $0["blip.text_encoder.embeddings.word_embeddings.weight"] = Tensor.zeros([9, 130]) }.contains(
                "128 and 130 are no multiples"))
        let folder = try TemporaryFolder()
        let vocabulary = folder.url.appendingPathComponent("vocab.txt")
        try Data("a\nb\n".utf8).write(to: vocabulary)
        let error = #expect(throws: TokenizerError.self) { try WordPieceTokenizer(vocabulary: vocabulary) }
        #expect(error?.description.contains("has no [UNK]") == true)
        try Data([0x89, 0x50, 0xFF, 0x00]).write(to: vocabulary)
        let binary = #expect(throws: TokenizerError.self) { try WordPieceTokenizer(vocabulary: vocabulary) }
        #expect(binary?.description == "\(vocabulary.path): is not UTF-8 text, so it is no BERT's vocab.txt")
    }
}
