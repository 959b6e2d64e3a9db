import Foundation
import Tensors
import TestSupport
import Testing

@testable import Models

/// DINOv2 and the preprocessing before it against transformers (Tests/Goldens/features/make_feature_goldens.py).
@Suite struct FeatureExtractorTests {
    private struct Golden: Decodable {
        let shapes: [String: [Int]]
        let pictures: [[Int]]
        let features: [[Double]]
        let own_size: [Double]
    }

    private static let place = goldens.appendingPathComponent("features/dinov2")

    private static func golden() throws -> Golden {
        try JSONDecoder().decode(Golden.self, from: Data(contentsOf: place.appendingPathComponent("golden.json")))
    }

    /// Copies files of a golden into a folder.
    private func copy(_ names: [String], of source: URL, to folder: TemporaryFolder) throws {
        for name in names {
            try FileManager.default.copyItem(at: source.appendingPathComponent(name), to: folder.url.appendingPathComponent(name))
        }
    }

    /// A folder as transformers leaves it, with values of its configurations exchanged.
    private func dinov2(_ changes: [String: [String: Any]] = [:]) throws -> TemporaryFolder {
        let folder = try TemporaryFolder()
        for name in ["config.json", "preprocessor_config.json"] {
            let data = try Data(contentsOf: Self.place.appendingPathComponent(name))
            var object = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
            object.merge(changes[name] ?? [:]) { $1 }
            try JSONSerialization.data(withJSONObject: object).write(to: folder.url.appendingPathComponent(name))
        }
        let weights = weightsByFormula(try Self.golden().shapes)
        try Safetensors.encode(weights).write(to: folder.url.appendingPathComponent("model.safetensors"))
        return folder
    }

    private func picture(_ height: Int, _ width: Int) -> [UInt8] {
        (0..<height * width * 3).map { place in
            let (y, x, c) = (place / 3 / width, place / 3 % width, place % 3)
            let value: Int = x * x * 7 + y * 31 + x * y * (c + 1) + c * 85
            return UInt8(value / 3 % 256)
        }
    }

    private func features(_ extractor: FeatureExtractor, _ pixels: [UInt8], _ height: Int, _ width: Int) throws -> Tensor {
        try pixels.withUnsafeBytes { bytes in
            try extractor(
                BorrowedImages(
                    base: try #require(bytes.baseAddress), count: 1, height: height, width: width, imageStride: bytes.count,
                    rowStride: width * 3))
        }
    }

    @Test(arguments: [.cpu] + otherDevices) func dinov2IsTransformers(device: Device) throws {
        let folder = try dinov2()
        let golden = try Self.golden()
        let extractor = try FeatureExtractor(folder: ModelFolder(folder.url), device: device)
        #expect(extractor.summary == "DINOv2 in \(folder.url.path), a ViT of 2 layers, 48 wide, patches of 14 in 56, on images of 28")
        for (size, expected) in zip(golden.pictures, golden.features) {
            let found = try features(extractor, picture(size[0], size[1]), size[0], size[1])
            #expect(found.shape == [1, 48])
            #expect(difference(try found.array(), expected) < 1e-5, "\(size)")
        }
        // Of the size that the positions are for.
        let model = try DINOv2Model(folder: ModelFolder(folder.url), device: device)
        let pixels = Tensor((0..<3 * 56 * 56).map { Float(sin(0.1 * Double($0))) }, shape: [1, 3, 56, 56])
        #expect(difference(try model(pixels.to(device)).array(), golden.own_size) < 1e-5)
        #expect(throws: ModelError.self) { try model(Tensor.zeros([1, 3, 13, 28])) }
    }

    @Test func clipIsItsModel() throws {
        let folder = try TemporaryFolder()
        try copy(["config.json", "model.safetensors"], of: goldens.appendingPathComponent("rewards/clip-vision-2"), to: folder)
        try Data(#"{"size": 28, "crop_size": 28}"#.utf8).write(to: folder.url.appendingPathComponent("preprocessor_config.json"))
        let extractor = try FeatureExtractor(folder: ModelFolder(folder.url), device: .cpu)
        #expect(extractor.summary.hasPrefix("CLIP in \(folder.url.path), a ViT of 2 layers"))
        let pixels = picture(28, 28)
        let values = (0..<3 * 28 * 28).map { place -> Float in
            let (channel, pixel) = (place / (28 * 28), place % (28 * 28))
            return (Float(pixels[pixel * 3 + channel]) / 255 - ImageNormalization.clip.mean[channel])
                / ImageNormalization.clip.deviation[channel]
        }
        let expected = try CLIPVisionModel(folder: ModelFolder(folder.url))(Tensor(values, shape: [1, 3, 28, 28]))
        #expect(try difference(features(extractor, pixels, 28, 28), expected) < 1e-5)
    }

    @Test(
        arguments: [
            ("config.json", ["model_type": "dinov2_with_registers"], "model_type is 'dinov2_with_registers'; features are those of CLIP"),
            ("config.json", ["architectures": ["Dinov2ForImageClassification"]], "'Dinov2ForImageClassification' is not supported"),
            ("config.json", ["use_swiglu_ffn": true], "use_swiglu_ffn true is not supported"),
            ("config.json", ["hidden_act": "mish"], "hidden_act 'mish'"), ("config.json", ["hidden_size": 1 << 40], "hidden_size"),
            ("config.json", ["mlp_ratio": 1e300], "mlp_ratio 1e+300"), ("config.json", ["num_attention_heads": 5], "num_attention_heads"),
            ("config.json", ["hidden_size": 96], "the weights do not fit"),
            ("preprocessor_config.json", ["crop_size": 13], "makes images of 13 pixels, less than patch_size"),
            ("preprocessor_config.json", ["image_processor_type": "ViTImageProcessor"], "image_processor_type \"ViTImageProcessor\""),
        ] as [(String, [String: any Sendable], String)])
    func foldersThatHaveNoFeatures(file: String, changes: [String: any Sendable], part: String) throws {
        let folder = try dinov2([file: changes])
        let error = try #require(throws: (any Error).self) { try FeatureExtractor(folder: ModelFolder(folder.url), device: .cpu) }
        #expect("\(error)".contains(folder.url.path) && "\(error)".contains(part), "\(error)")
    }

    @Test func sizesOfCLIPHaveToFit() throws {
        let folder = try TemporaryFolder()
        try copy(["config.json", "model.safetensors"], of: goldens.appendingPathComponent("rewards/clip-vision-2"), to: folder)
        func problem() -> String {
            do { return "none: \(try FeatureExtractor(folder: ModelFolder(folder.url), device: .cpu).summary)" } catch { return "\(error)" }
        }
        #expect(problem().contains("preprocessor_config.json: missing"))
        try Data("{}".utf8).write(to: folder.url.appendingPathComponent("preprocessor_config.json"))
        #expect(
            problem().contains("preprocessor_config.json: makes images of 224 pixels, image_size of \(folder.url.path)/config.json is 28"))
    }
}
