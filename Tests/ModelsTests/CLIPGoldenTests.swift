import Foundation
import NN
import Tensors
import TestSupport
import Testing

@testable import Models

/// CLIP's towers against transformers and open_clip (rewards/make_clip_goldens.py).
@Suite struct CLIPGoldenTests {
    private static let small = CLIPConfiguration(
        embedding: 24, activation: .gelu, vision: .init(width: 24, inner: 72, layers: 2, heads: 1, imageSize: 28, patchSize: 14),
        text: .init(contextLength: 12, vocabularySize: 50, layers: 3, width: 16, inner: 64, heads: 1))

    private func file(_ name: String) -> URL { goldens.appendingPathComponent("rewards/\(name)") }

    @Test(arguments: ["clip-vision", "clip-vision-2"], [.cpu] + otherDevices)
    func imageEmbeddings(name: String, device: Device) throws {
        let model = try CLIPVisionModel(folder: ModelFolder(file(name)), device: device)
        let golden = try tensors("rewards/\(name)/golden.safetensors")
        let expected = golden["image_embeds"]!
        #expect(model.imageSize == 28 && model.embeddingSize == expected.size(1))
        #expect(try difference(model(golden["images"]!.to(device)), expected) < 1e-5)
    }

    /// A whole CLIPModel of transformers.
    @Test(arguments: [.cpu] + otherDevices) func bothTowers(device: Device) throws {
        let folder = try ModelFolder(file("clip-vision"))
        let model = try CLIPModel(folder: folder, device: device)
        let golden = try tensors("rewards/clip-vision/golden.safetensors")
        let ids = try (0..<3).map { try golden["ids"]!.select(0, $0).array(Int64.self).map(Int.init) }
        #expect(try difference(model.imageFeatures(golden["images"]!), golden["image_embeds"]!.normalize()) < 1e-5)
        #expect(try difference(model.textFeatures(ids), golden["text_embeds"]!.normalize()) < 1e-5)
        #expect(try abs(model.logitFactor() - golden["logit_scale"]!.array(Float.self)[0]) < 1e-5)
        #expect(throws: ModelError.self) { try model.textFeatures([[30, 1, 2]]) }  // no end token
        // The factor is not rounded with the weights.
        #expect(try CLIPModel(folder: folder, dtype: .bfloat16, device: device).logitFactor() == model.logitFactor())
    }

    /// Configurations that transformers reads in another way than a CLIP's here, or not at all.
    @Test(arguments: [
        (#"{"architectures": ["CLIPTextModel"]}"#, "'CLIPTextModel' is not supported (CLIPModel is)"),
        (#"{"text_config": {}}"#, "no text_config with vision_config"),
        (#"{"text_config": {"hidden_act": "gelu"}, "vision_config": {}}"#, "different values of hidden_act"),
        (#"{"text_config": {"hidden_size": null}, "vision_config": {}}"#, "'text_config.hidden_size' is null"),
        (#"{"text_config": {"eos_token_id": [2, 3]}, "vision_config": {}}"#, "eos_token_id must be one number"),
        (#"{"text_config": {"num_attention_heads": 7}, "vision_config": {}}"#, "hidden_size a multiple of num_attention_heads"),
        (#"{"text_config": {}, "text_config_dict": {"hidden_act": "mish"}, "vision_config": {}}"#, "hidden_act 'mish'"),
        (#"{"text_config": {}, "vision_config": {}, "projection_dim": 0}"#, "projection_dim 0"),
    ]) func configurationsThatAreNoCLIPs(config: String, part: String) throws {
        let folder = try TemporaryFolder()
        try Data(config.utf8).write(to: folder.url.appendingPathComponent("config.json"))
        let error = try #require(throws: ModelError.self) { try CLIPModel(folder: ModelFolder(folder.url)) }
        #expect(error.description.contains("config.json: ") && error.description.contains(part), "\(error)")
    }

    @Test(arguments: ["open_clip_model.safetensors", "checkpoint.pt"], [.cpu] + otherDevices)
    func openCLIPFeatures(name: String, device: Device) throws {
        let model = try CLIPModel(openCLIP: file("open-clip/\(name)"), device: device)
        #expect(model.configuration == Self.small)
        let golden = try tensors("rewards/open-clip/golden.safetensors")
        let ids = try (0..<4).map { try golden["ids"]!.select(0, $0).array(Int64.self).map(Int.init) }
        #expect(try difference(model.imageFeatures(golden["images"]!.to(device)), golden["image_features"]!) < 1e-5)
        #expect(try difference(model.textFeatures(ids), golden["text_features"]!) < 1e-5)
        // Padding after the end token changes nothing: no token sees those after it.
        let short = try model.textFeatures([Array(ids[1].prefix(6))])
        #expect(try difference(short, golden["text_features"]!.narrow(0, 1, 1)) < 1e-5)
    }

    @Test func wrongInputs() throws {
        let vision = try CLIPVisionModel(folder: ModelFolder(file("clip-vision")))
        let model = try CLIPModel(openCLIP: file("open-clip/checkpoint.pt"))
        for shape in [[1, 3, 28, 27], [1, 1, 28, 28], [3, 28, 28]] {
            let images = Tensor.zeros(shape)
            #expect(throws: ModelError.self) { try vision(images) }
            #expect(throws: ModelError.self) { try model.imageFeatures(images) }
        }
        for ids in [[], [[]], [[1, 2], [1]], [[50]], [Array(repeating: 1, count: 13)]] {
            #expect(throws: ModelError.self) { try model.textFeatures(ids) }
        }
        // Where an operation failed there are no features, to be kept for other images.
        for features in [{ try model.textFeatures([[1]]) }, { try model.imageFeatures(Tensor.zeros([1, 3, 28, 28])) }] {
            _ = Tensor.zeros([2]) + Tensor.zeros([3])
            #expect(throws: TensorError.self) { try features() }
        }
    }

    /// Sizes that would take all memory or none.
    @Test(arguments: [
        ("image_size", 8192), ("image_size", 0), ("patch_size", 0), ("patch_size", 29), ("num_hidden_layers", 1 << 40), ("hidden_size", -8),
    ])
    func impossibleSizes(key: String, value: Int) throws {
        let folder = try TemporaryFolder()
        let original = try Data(contentsOf: file("clip-vision-2").appendingPathComponent("config.json"))
        var config = try #require(JSONSerialization.jsonObject(with: original) as? [String: Any])
        config[key] = value
        try JSONSerialization.data(withJSONObject: config).write(to: folder.url.appendingPathComponent("config.json"))
        let error = try #require(throws: ModelError.self) { try CLIPVisionModel(folder: ModelFolder(folder.url)) }
        #expect(error.description.contains("config.json") && error.description.contains("at most"), "\(error)")
    }

    /// Returns the error for open_clip's weights after a change.
    private func problem(_ change: (inout [String: Tensor]) -> Void) throws -> String {
        var tensors = try Safetensors(contentsOf: file("open-clip/open_clip_model.safetensors")).tensors
        change(&tensors)
        let folder = try TemporaryFolder()
        let weights = folder.url.appendingPathComponent("open-clip.safetensors")
        try Safetensors.encode(tensors).write(to: weights)
        do { _ = try CLIPModel(openCLIP: weights) } catch {
            let message = "\(error)"
            #expect(message.hasPrefix("\(weights.path): ") && !message.contains("\n"), "\(message)")
            return message
        }
        return ""
    }

    /// Weights that do not fit together give one line that names the file and the tensor.
    @Test func weightsThatDoNotFit() throws {
        #expect(try problem { _ in } == "")
        #expect(try problem { $0["visual.conv1.weight"] = nil }.hasSuffix("has no visual.conv1.weight, so it is not open_clip's"))
        #expect(
            try problem { weights in weights = Dictionary(uniqueKeysWithValues: weights.map { ("ema." + $0.key, $0.value) }) }
                .contains("holds ema."))
        #expect(try problem { $0["text_projection"] = Tensor.zeros([16]) }.hasSuffix("text_projection has the shape [16]"))
        #expect(try problem { $0["visual.positional_embedding"] = Tensor.zeros([1, 24]) }.contains("images of 0 patches"))
        #expect(
            try problem { $0["visual.positional_embedding"] = Tensor.zeros([6, 24]) }.contains(
                "visual.positional_embedding has shape [6, 24]"))
        #expect(
            try problem { $0["transformer.resblocks.1.ln_1.weight"] = nil }.contains("transformer.resblocks.1.ln_1.weight [16] is missing"))
        #expect(try problem { $0["transformer.resblocks.9.ln_1.weight"] = Tensor.zeros([16]) }.contains("not numbered"))
        #expect(try problem { $0["score_predictor.weight"] = Tensor.zeros([1]) }.contains("score_predictor.weight is not used"))
    }

    /// In all of open_clip's configurations: heads of 64, but no more than 16 in a vision tower.
    @Test(arguments: [(24, 1), (384, 6), (768, 12), (896, 14), (1024, 16), (1280, 16), (1408, 16), (1664, 16), (1792, 16)])
    func headsFollowTheWidth(width: Int, heads: Int) throws {
        let shapes = [
            "visual.conv1.weight": [width, 3, 1, 1], "visual.positional_embedding": [2, width],
            "visual.transformer.resblocks.0.mlp.c_fc.weight": [1, width], "positional_embedding": [1, 1],
            "token_embedding.weight": [1, 1280], "transformer.resblocks.0.mlp.c_fc.weight": [1, 1280], "text_projection": [1280, 1],
        ]
        let read = CheckpointShapes(tensors: shapes.mapValues { Tensor.zeros($0) }, origin: "file", owner: "open_clip's")
        let configuration = try CLIPConfiguration(openCLIP: read)
        #expect(configuration.vision.heads == heads && configuration.text.heads == 20)
    }
}
