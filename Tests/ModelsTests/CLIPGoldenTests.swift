import Foundation
import NN
import Tensors
import Testing

@testable import Models

/// CLIP's towers against transformers and open_clip (rewards/make_clip_goldens.py).
@Suite struct CLIPGoldenTests {
    private static let small = OpenCLIPConfiguration(
        embedding: 24, vision: .init(imageSize: 28, patchSize: 14, layers: 2, width: 24, headWidth: 8),
        text: .init(contextLength: 12, vocabularySize: 50, layers: 2, width: 16, heads: 4), activation: .gelu)

    private func file(_ name: String) -> URL { goldens.appendingPathComponent("rewards/\(name)") }

    @Test(arguments: ["clip-vision", "clip-vision-2"])
    func imageEmbeddings(name: String) throws {
        let model = try CLIPVisionModel(folder: ModelFolder(file(name)))
        let golden = try golden("rewards/\(name)")
        let expected = golden["image_embeds"]!
        #expect(model.imageSize == 28 && model.embeddingSize == expected.size(1))
        #expect(try difference(model(golden["images"]!), expected) < 1e-5)
    }

    @Test(arguments: ["open_clip_model.safetensors", "checkpoint.pt"])
    func openCLIPFeatures(name: String) throws {
        let model = try OpenCLIPModel(weights: file("open-clip/\(name)"), configuration: Self.small)
        let golden = try golden("rewards/open-clip")
        let ids = try (0..<4).map { try golden["ids"]!.select(0, $0).array(Int64.self).map(Int.init) }
        #expect(try difference(model.imageFeatures(golden["images"]!), golden["image_features"]!) < 1e-5)
        #expect(try difference(model.textFeatures(ids), golden["text_features"]!) < 1e-5)
        // Padding after the end token changes nothing: no token sees those after it.
        let short = try model.textFeatures([Array(ids[1].prefix(6))])
        #expect(try difference(short, golden["text_features"]!.narrow(0, 1, 1)) < 1e-5)
    }

    @Test func wrongInputs() throws {
        let vision = try CLIPVisionModel(folder: ModelFolder(file("clip-vision")))
        let model = try OpenCLIPModel(weights: file("open-clip/checkpoint.pt"), configuration: Self.small)
        for shape in [[1, 3, 28, 27], [1, 1, 28, 28], [3, 28, 28]] {
            let images = Tensor.zeros(shape)
            #expect(throws: ModelError.self) { try vision(images) }
            #expect(throws: ModelError.self) { try model.imageFeatures(images) }
        }
        for ids in [[], [[]], [[1, 2], [1]], [[50]], [Array(repeating: 1, count: 13)]] {
            #expect(throws: ModelError.self) { try model.textFeatures(ids) }
        }
        // Where an operation failed there are no features, to be kept for other pictures.
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
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("clip-\(UUID())")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let original = try Data(contentsOf: file("clip-vision-2").appendingPathComponent("config.json"))
        var config = try #require(JSONSerialization.jsonObject(with: original) as? [String: Any])
        config[key] = value
        try JSONSerialization.data(withJSONObject: config).write(to: folder.appendingPathComponent("config.json"))
        let error = try #require(throws: ModelError.self) { try CLIPVisionModel(folder: ModelFolder(folder)) }
        #expect(error.description.contains("config.json") && error.description.contains("at most"), "\(error)")
    }

    /// Another architecture's weights: one line that names the file and the tensors.
    @Test func weightsOfAnotherArchitecture() throws {
        let weights = file("open-clip/open_clip_model.safetensors")
        let taller = OpenCLIPConfiguration(
            embedding: 24, vision: .init(imageSize: 42, patchSize: 14, layers: 1, width: 24, headWidth: 8), text: Self.small.text,
            activation: .gelu)
        let error = try #require(throws: TensorFileError.self) { try OpenCLIPModel(weights: weights, configuration: taller) }
        let message = error.description
        #expect(message.hasPrefix(weights.path) && !message.contains("\n"))
        #expect(message.contains("visual.positional_embedding has shape [5, 24], the configuration asks for [10, 24]"))
        #expect(message.contains("visual.transformer.resblocks.1.attn.in_proj_bias is not used"))
    }
}
