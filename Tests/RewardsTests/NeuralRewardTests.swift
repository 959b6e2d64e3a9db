import Foundation
import Testing

@testable import Images
@testable import Rewards

/// libaesthetic.so and libimagereward.so through the plugin ABI, from bytes to scores, against the public Python code at small sizes
/// (Tests/Goldens/rewards). The weights are made by the goldens' formula and stored here as safetensors.
@Suite struct NeuralRewardTests {
    private static let goldens = RewardFixture.root.appendingPathComponent("Tests/Goldens/rewards")

    private struct Aesthetic: Decodable {
        let shapes: [String: [Int]]
        let pictures: [[Int]]
        let scores: [Float]
    }

    private struct ImageReward: Decodable {
        let shapes: [String: [Int]]
        let prompts: [String]
        let pictures: [[Int]]
        let picture_scores: [Float]
    }

    private static func golden<Golden: Decodable>(_ name: String) throws -> Golden {
        try JSONDecoder().decode(Golden.self, from: Data(contentsOf: goldens.appendingPathComponent(name)))
    }

    /// `by_formula` of the goldens, as a safetensors file.
    private static func write(_ shapes: [String: [Int]], to file: URL) throws {
        var (header, data) = ([String: [String: Any]](), Data())
        for (index, name) in shapes.keys.sorted().enumerated() {
            let shape = shapes[name]!
            let isNorm = ["norm1.weight", "norm2.weight", "norm.weight", "LayerNorm.weight"].contains(where: name.hasSuffix)
            let scale = (12 / Double(shape.dropFirst().reduce(1, *))).squareRoot()
            let start = data.count
            for place in 0..<shape.reduce(1, *) {
                let noise = sin(12.9898 * Double(place) + 78.233 * Double(index)) * 43758.5453
                let value = noise - noise.rounded(.down) - 0.5
                let isEmbedding = name.contains("embed") && !name.contains("proj")
                let number = isNorm ? 1 + 0.2 * value : isEmbedding ? 2 * value : shape.count > 1 ? value * scale : value
                withUnsafeBytes(of: Float(number)) { data.append(contentsOf: $0) }
            }
            header[name] = ["dtype": "F32", "shape": shape, "data_offsets": [start, data.count]]
        }
        let json = try JSONSerialization.data(withJSONObject: header)
        let size = withUnsafeBytes(of: UInt64(json.count).littleEndian) { Data($0) }
        try (size + json + data).write(to: file)
    }

    /// Scores pictures of different sizes one by one.
    private static func scores(_ plugin: String, _ sizes: [[Int]], prompts: [String]) throws -> [Float] {
        let reward = try RewardSpecification(plugin).load()
        return try zip(sizes, prompts).map { size, prompt in
            let pixels = RewardFixture.picture(height: size[0], width: size[1]) { y, x, c in
                let value: Int = x * x * 7 + y * 31 + x * y * (c + 1) + c * 85
                return value / 3 % 256
            }
            let scores = try reward.score(RewardFixture.batch([pixels], height: size[0], width: size[1], prompts: [prompt]))
            #expect(scores.failures.isEmpty)
            return scores.values[0]
        }
    }

    @Test(arguments: ["worker", "none"]) func aesthetic(isolation: String) throws {
        let golden: Aesthetic = try Self.golden("aesthetic.json")
        try RewardFixture.withFolder { folder in
            let head = folder.appendingPathComponent("head.safetensors")
            try Self.write(golden.shapes, to: head)
            let clip = Self.goldens.appendingPathComponent("clip-vision-2").path
            let plugin = "aesthetic,weights=\(head.path),clip=\(clip),isolation=\(isolation)"
            let scores = try Self.scores(plugin, golden.pictures, prompts: ["", ""])
            #expect(Set(golden.scores).count == 2)
            for (score, expected) in zip(scores, golden.scores) { #expect(abs(score - expected) < 1e-4, "\(scores), \(golden.scores)") }
            let low = try Self.scores(plugin + ",precision=bf16,batch_size=1", golden.pictures, prompts: ["", ""])
            for (score, expected) in zip(low, golden.scores) { #expect(abs(score - expected) < 0.1, "\(low), \(golden.scores)") }
        }
    }

    @Test func imageReward() throws {
        let golden: ImageReward = try Self.golden("imagereward.json")
        try RewardFixture.withFolder { folder in
            let weights = folder.appendingPathComponent("ImageReward.safetensors")
            try Self.write(golden.shapes, to: weights)
            // Beside the weights, where it is looked for.
            try FileManager.default.copyItem(
                at: Self.goldens.appendingPathComponent("imagereward_vocab.txt"), to: folder.appendingPathComponent("vocab.txt"))
            let scores = try Self.scores("imagereward,weights=\(weights.path)", golden.pictures, prompts: Array(golden.prompts.prefix(2)))
            for (score, expected) in zip(scores, golden.picture_scores) {
                #expect(abs(score - expected) < 1e-4, "\(scores), \(golden.picture_scores)")
            }
        }
    }

    /// Other weights are another reward: a run does not go on with them.
    @Test func fingerprintsFollowTheWeights() throws {
        let golden: Aesthetic = try Self.golden("aesthetic.json")
        try RewardFixture.withFolder { folder in
            let head = folder.appendingPathComponent("head.safetensors")
            try Self.write(golden.shapes, to: head)
            let clip = folder.appendingPathComponent("clip")
            try FileManager.default.copyItem(at: Self.goldens.appendingPathComponent("clip-vision-2"), to: clip)
            let plugin = "aesthetic,weights=\(head.path),clip=\(clip.path)"
            var fingerprints = [try RewardSpecification(plugin).load().fingerprint]
            #expect(try RewardSpecification(plugin).load().fingerprint == fingerprints[0])
            for file in [head, clip.appendingPathComponent("model.safetensors")] {
                var data = try Data(contentsOf: file)
                data[data.count - 2] ^= 1
                try data.write(to: file)
                fingerprints.append(try RewardSpecification(plugin).load().fingerprint)
            }
            let config = clip.appendingPathComponent("config.json")
            try (Data(contentsOf: config) + Data("\n".utf8)).write(to: config)
            fingerprints.append(try RewardSpecification(plugin).load().fingerprint)
            #expect(Set(fingerprints).count == 4)
        }
    }

    @Test(arguments: [
        ("aesthetic", "weights= is missing"), ("aesthetic,weights=/no/head.pth", "weights=/no/head.pth: no such file"),
        ("aesthetic,weights=HEAD", "clip= is missing"), ("aesthetic,weights=HEAD,clip=/no/clip", "/no/clip: no such folder"),
        ("aesthetic,weights=HEAD,clip=FOLDER", "no weights"), ("aesthetic,weights=SHORT,clip=CLIP", "SHORT"),
        ("aesthetic,weights=HEAD,clip=WIDER", "embeddings of 20 numbers"), ("aesthetic,weights=OTHER,clip=CLIP", "layers.0.weight"),
        ("aesthetic,weights=HEAD,clip=CLIP,precision=fp8", "precision=fp8"),
        ("aesthetic,weights=HEAD,clip=CLIP,batch_size=0", "batch_size=0"), ("aesthetic,weights=HEAD,clip=CLIP,device=cuda:7", "cuda"),
        ("hps", "weights= is missing: HPS_v2_compressed.pt"), ("hps,weights=HEAD", "vocabulary= is missing"),
        ("hps,weights=HEAD,vocabulary=HEAD", "head.safetensors"), ("imagereward,weights=HEAD", "vocab.txt: no such file"),
        ("imagereward,weights=HEAD,vocabulary=VOCABULARY", "it is not ImageReward's"),
    ]) func wrongFilesAreOneClearError(plugin: String, part: String) throws {
        let golden: Aesthetic = try Self.golden("aesthetic.json")
        try RewardFixture.withFolder { folder in
            let head = folder.appendingPathComponent("head.safetensors")
            try Self.write(golden.shapes, to: head)
            let short = folder.appendingPathComponent("SHORT.safetensors")
            try Data(contentsOf: head).dropLast(1000).write(to: short)
            let files = [
                "HEAD": head.path, "SHORT": short.path, "CLIP": "\(Self.goldens.path)/clip-vision-2", "FOLDER": folder.path,
                "WIDER": "\(Self.goldens.path)/clip-vision",
                "OTHER": "\(Self.goldens.path)/clip-vision-2/model.safetensors", "VOCABULARY": "\(Self.goldens.path)/imagereward_vocab.txt",
            ]
            let text = errorMessage {
                try RewardSpecification(files.reduce(plugin) { $0.replacingOccurrences(of: "=\($1.key)", with: "=\($1.value)") }).load()
            }
            #expect(text.contains(part) && text.hasPrefix("reward ") && !text.contains("\n"), "\(text)")
        }
    }
}
