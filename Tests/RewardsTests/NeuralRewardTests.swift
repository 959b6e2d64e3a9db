import Foundation
import Support
import TestSupport
import Testing

@testable import Images
@testable import Rewards

/// libaesthetic.so, libimagereward.so, libhps.so, libpickscore.so and libclipscore.so through the plugin ABI, from
/// bytes to scores, against the public Python code at small sizes (Tests/Goldens/rewards). The weights are made by the goldens' formula
/// and stored here as safetensors.
@Suite struct NeuralRewardTests {
    private static let goldens = repository.appendingPathComponent("Tests/Goldens/rewards")

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

    private struct HPS: Decodable {
        let shapes: [String: [Int]]
        let prompts: [String]
        let pictures: [[Int]]
        let scores: [Float]
    }

    private struct CLIP: Decodable {
        let shapes: [String: [Int]]
        let pictures: [[Int]]
        let prompts: [String]
        let cosines, logits: [Float]
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

    /// Scores pictures of different sizes one by one, [n, objectives].
    private static func scores(_ plugin: String, _ sizes: [[Int]], prompts: [String]) throws -> [Float] {
        let reward = try RewardSpecification(plugin).load()
        return try zip(sizes, prompts).flatMap { size, prompt in
            let pixels = RewardFixture.picture(height: size[0], width: size[1]) { y, x, c in
                let value: Int = x * x * 7 + y * 31 + x * y * (c + 1) + c * 85
                return value / 3 % 256
            }
            let scores = try reward.score(RewardFixture.batch([pixels], height: size[0], width: size[1], prompts: [Prompt(prompt)]))
            #expect(scores.failures.isEmpty)
            return scores.values
        }
    }

    @Test(arguments: ["worker", "none"]) func aesthetic(isolation: String) throws {
        let golden: Aesthetic = try Self.golden("aesthetic.json")
        try withFolder { folder in
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
        try withFolder { folder in
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

    /// Heads of attention and all sizes are read off the weights.
    /// The vocabulary lies beside them, where it is looked for.
    @Test func hps() throws {
        let golden: HPS = try Self.golden("hps.json")
        try withFolder { folder in
            let weights = folder.appendingPathComponent("HPS.safetensors")
            try Self.write(golden.shapes, to: weights)
            try FileManager.default.copyItem(
                at: repository.appendingPathComponent("Tests/Goldens/tokenizer/open-clip/bpe.txt.gz"),
                to: folder.appendingPathComponent("bpe_simple_vocab_16e6.txt.gz"))
            let scores = try Self.scores("hps,weights=\(weights.path)", golden.pictures, prompts: golden.prompts)
            for (score, expected) in zip(scores, golden.scores) { #expect(abs(score - expected) < 1e-5, "\(scores), \(golden.scores)") }
            let low = try Self.scores("hps,weights=\(weights.path),precision=bf16,threads=2", golden.pictures, prompts: golden.prompts)
            for (score, expected) in zip(low, golden.scores) { #expect(abs(score - expected) < 0.02, "\(low), \(golden.scores)") }
        }
    }

    /// Fills a folder with a golden's CLIP as transformers writes it.
    private static func clip(_ name: String, in folder: URL) throws -> CLIP {
        for part in ["rewards/\(name)", "tokenizer/files", "tokenizer/inverted"] {
            let source = repository.appendingPathComponent("Tests/Goldens/\(part)")
            for file in try FileManager.default.contentsOfDirectory(atPath: source.path) {
                try FileManager.default.copyItem(at: source.appendingPathComponent(file), to: folder.appendingPathComponent(file))
            }
        }
        let golden: CLIP = try golden("\(name)/golden.json")
        try write(golden.shapes, to: folder.appendingPathComponent("model.safetensors"))
        return golden
    }

    /// Configurations of old and new versions of transformers; prompts that are cut, and with added tokens.
    @Test(arguments: ["clip-score", "clip-score-2"]) func pickScoreAndCLIPScore(name: String) throws {
        try withFolder { folder in
            let golden = try Self.clip(name, in: folder)
            let options = "weights=\(folder.path),isolation=none"
            let picks = try Self.scores("pickscore,\(options)", golden.pictures, prompts: golden.prompts)
            for (score, expected) in zip(picks, golden.logits) { #expect(abs(score - expected) < 1e-5, "\(picks), \(golden.logits)") }
            let pairs = try Self.scores("clipscore,\(options)", golden.pictures, prompts: golden.prompts)
            let expected = golden.cosines.flatMap { [100 * $0, $0] }
            #expect(picks.count == 4 && pairs.count == 8)
            for (score, expected) in zip(pairs, expected) {
                #expect(abs(score - expected) < 1e-5 * max(1, expected), "\(pairs), \(expected)")
            }
            let low = try Self.scores("clipscore,\(options),precision=bf16", golden.pictures, prompts: golden.prompts)
            for (score, exact) in zip(low, expected) { #expect(abs(score - exact) < 0.02 * max(1, exact), "\(low), \(expected)") }
        }
    }

    /// Parts of a folder that do not fit together are one error that names the file, before anything is scored; what
    /// they say is part of the fingerprint.
    @Test func partsOfACLIPThatDoNotFit() throws {
        try withFolder { folder in
            _ = try Self.clip("clip-score-2", in: folder)
            let reward = try RewardSpecification("pickscore,weights=\(folder.path),isolation=none")
            func load() throws -> String { try reward.load().fingerprint }
            func changed(_ name: String, _ old: String, _ new: String, _ body: () throws -> Void) throws {
                let file = folder.appendingPathComponent(name)
                let text = try String(contentsOf: file, encoding: .utf8)
                #expect(text.contains(old))
                try text.replacingOccurrences(of: old, with: new).write(to: file, atomically: true, encoding: .utf8)
                try body()
                try text.write(to: file, atomically: true, encoding: .utf8)
            }
            let fingerprint = try load()
            for (name, old, new, part) in [
                ("config.json", "1687", "1685", "config.json: eos_token_id is not 1687, with which the folder's tokenizer ends a text"),
                ("processor_config.json", "28", "56", "processor_config.json: makes images of 56 pixels, image_size of"),
                ("added_tokens.json", #","<cat-toy-2>":1690"#, "", ": its tokenizer has 1690 tokens, vocab_size of"),
                ("processor_config.json", #""resample": 3"#, #""resample": 2"#, "resample 2 is not supported"),
            ] {
                try changed(name, old, new) {
                    let text = errorMessage(load)
                    #expect(text.contains(part) && !text.contains("\n"), "\(text)")
                }
            }
            for (name, old, new) in [("processor_config.json", "0.25", "0.35"), ("merges.txt", "#version: 0.2", "#version: 0.3")] {
                try changed(name, old, new) {
                    let other = try load()
                    #expect(other != fingerprint)
                }
            }
            #expect(try load() == fingerprint)
        }
    }

    /// A vocabulary with a missing piece gives wrong ids, so it is refused before anything is scored.
    @Test(.slow) func vocabulariesThatAreNotTheModels() throws {
        let (imageReward, hps): (ImageReward, HPS) = (try Self.golden("imagereward.json"), try Self.golden("hps.json"))
        try withFolder { folder in
            let weights = ["imagereward", "hps"].map { folder.appendingPathComponent("\($0).safetensors") }
            try Self.write(imageReward.shapes, to: weights[0])
            try Self.write(hps.shapes, to: weights[1])
            let pieces = try String(contentsOf: Self.goldens.appendingPathComponent("imagereward_vocab.txt"), encoding: .utf8)
            let short = folder.appendingPathComponent("short.txt")
            try Data(pieces.split(separator: "\n").dropLast().joined(separator: "\n").utf8).write(to: short)
            let rows = try #require(imageReward.shapes["blip.text_encoder.embeddings.word_embeddings.weight"])[0]
            let first = errorMessage { try RewardSpecification("imagereward,weights=\(weights[0].path),vocabulary=\(short.path)").load() }
            #expect(first.contains("short.txt: has \(rows - 1) tokens with [DEC] and [ENC], not the \(rows) of"), "\(first)")
            let merges = repository.appendingPathComponent("Tests/Goldens/tokenizer/files/merges.txt")
            let fewer = folder.appendingPathComponent("fewer.txt")
            try Data(String(contentsOf: merges, encoding: .utf8).split(separator: "\n").dropLast().joined(separator: "\n").utf8).write(
                to: fewer)
            let second = errorMessage { try RewardSpecification("hps,weights=\(weights[1].path),vocabulary=\(fewer.path)").load() }
            let ids = try #require(hps.shapes["token_embedding.weight"])[0]
            #expect(second.contains("fewer.txt: has \(ids - 1) tokens, not the \(ids) of"), "\(second)")
        }
    }

    /// A vocabulary with as many pieces as bert-base-uncased, but in other places.
    @Test(.slow) func vocabularyOfThePublishedSize() throws {
        let golden: ImageReward = try Self.golden("imagereward.json")
        try withFolder { folder in
            let weights = folder.appendingPathComponent("ImageReward.safetensors")
            try Self.write(
                golden.shapes.merging(["blip.text_encoder.embeddings.word_embeddings.weight": [30524, 128]]) { $1 }, to: weights)
            for (first, message) in [
                (100, ""), (1, "is not bert-base-uncased's: [UNK], [CLS] and [SEP] are [1, 2, 3], not 100, 101 and 102"),
            ] {
                var pieces = (0..<30522).map { "[unused\($0)]" }
                pieces[0] = "[PAD]"
                for (place, piece) in ["[UNK]", "[CLS]", "[SEP]", "[MASK]"].enumerated() { pieces[first + place] = piece }
                let vocabulary = folder.appendingPathComponent("vocab.txt")
                try Data((pieces.joined(separator: "\n") + "\n").utf8).write(to: vocabulary)
                var found = ""
                do { _ = try RewardSpecification("imagereward,weights=\(weights.path)").load() } catch { found = "\(error)" }
                #expect(message.isEmpty ? found.isEmpty : found.hasSuffix(": \(message)"), "\(found)")
            }
        }
    }

    /// The log shows what was loaded, what differs from the published model, and which tensors were not used.
    @Test func theLogTellsWhatWasLoaded() throws {
        let golden: ImageReward = try Self.golden("imagereward.json")
        try withFolder { folder in
            let (weights, picture) = (
                folder.appendingPathComponent("ImageReward.safetensors"), folder.appendingPathComponent("picture.png")
            )
            try Self.write(golden.shapes.merging(["something.else": [1]]) { $1 }, to: weights)
            try PNG.write([UInt8](repeating: 9, count: 48), height: 4, width: 4, to: picture.path)
            let vocabulary = Self.goldens.appendingPathComponent("imagereward_vocab.txt").path
            let reward = "imagereward,weights=\(weights.path),vocabulary=\(vocabulary),threads=1"
            let outcome = try Shell.run(["dag-reward", "score", reward, picture.path], in: folder)
            #expect(outcome.status == 0)
            for line in [
                "reward: imagereward: BLIP with a ViT of 2 layers, 128 wide, patches of 16 in 32 and a BERT of 2 layers, 128 wide; "
                    + "float32 on cpu, threads: 1",
                "reward: imagereward: warning: the scores are not the published ones: \(weights.path) has other sizes",
                "reward: imagereward: \(weights.path): tensors that the model does not use are ignored: 1, such as something.else",
            ] { #expect(outcome.output.contains(line), "\(outcome.output)") }
        }
    }

    /// Prompts that are longer than the text model are told once, with those that become the same.
    @Test func theLogTellsOfPromptsThatAreCut() throws {
        try withFolder { folder in
            let files = ["vocab.txt": "rewards/imagereward_vocab.txt", "bpe_simple_vocab_16e6.txt.gz": "tokenizer/open-clip/bpe.txt.gz"]
            for (name, golden) in files {
                let source = repository.appendingPathComponent("Tests/Goldens/\(golden)")
                try FileManager.default.copyItem(at: source, to: folder.appendingPathComponent(name))
            }
            let picture = folder.appendingPathComponent("picture.png").path
            try PNG.write([UInt8](repeating: 9, count: 48), height: 4, width: 4, to: picture)
            let long = String(repeating: "a, ", count: 100)
            try "a cat\n\(long)b\n\(long)c".write(to: folder.appendingPathComponent("p.txt"), atomically: true, encoding: .utf8)
            let hps: HPS = try Self.golden("hps.json")
            let imageReward: ImageReward = try Self.golden("imagereward.json")
            for (name, shapes) in [("hps", hps.shapes), ("imagereward", imageReward.shapes)] {
                let weights = folder.appendingPathComponent("\(name).safetensors")
                try Self.write(shapes, to: weights)
                let arguments = [
                    "dag-reward", "score", "\(name),weights=\(weights.path),batch_size=3", picture, picture, picture, "--prompts", "p.txt",
                ]
                let outcome = try Shell.run(arguments, in: folder)
                let part = "reward: \(name): warning: of a batch, 2 of 3 different prompts have more than "
                let lines = outcome.output.split(separator: "\n").filter { $0.hasPrefix(part) }
                #expect(lines.count == 1 && lines[0].hasSuffix("; the same after that: prompts 2, 3"), "\(outcome.output)")
                #expect(name == "hps" || lines[0].contains("more than 33 tokens (35 with"), "\(outcome.output)")
            }
        }
    }

    /// Other weights give another fingerprint, so a run is not resumed with them.
    @Test(.slow) func fingerprintsFollowTheWeights() throws {
        let golden: Aesthetic = try Self.golden("aesthetic.json")
        try withFolder { folder in
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
            // The same files in another place, and settings that change no score.
            let moved = folder.appendingPathComponent("moved")
            try FileManager.default.createDirectory(at: moved, withIntermediateDirectories: false)
            for file in [head, clip] {
                try FileManager.default.moveItem(at: file, to: moved.appendingPathComponent(file.lastPathComponent))
            }
            let elsewhere = "aesthetic,weights=\(moved.path)/head.safetensors,clip=\(moved.path)/clip,batch_size=3,threads=1"
            #expect(try RewardSpecification(elsewhere).load().fingerprint == fingerprints.last)
            #expect(try RewardSpecification(elsewhere + ",precision=bf16").load().fingerprint != fingerprints.last)
        }
    }

    @Test(
        .slow,
        arguments: [
            ("aesthetic", "weights= is missing"), ("aesthetic,weights=/no/head.pth", "weights=/no/head.pth: no such file"),
            ("aesthetic,weights=HEAD", "clip= is missing"), ("aesthetic,weights=HEAD,clip=/no/clip", "/no/clip: no such folder"),
            ("aesthetic,weights=HEAD,clip=FOLDER", "no weights"), ("aesthetic,weights=SHORT,clip=CLIP", "SHORT"),
            ("aesthetic,weights=HEAD,clip=WIDER", "embeddings of 20 numbers"), ("aesthetic,weights=OTHER,clip=CLIP", "layers.0.weight"),
            ("aesthetic,weights=HEAD,clip=CLIP,precision=fp8", "precision=fp8"),
            ("aesthetic,weights=HEAD,clip=CLIP,batch_size=0", "batch_size=0"), ("aesthetic,weights=HEAD,clip=CLIP,device=cuda:7", "cuda"),
            ("aesthetic,weights=HEAD,clip=CLIP,threads=x", "threads=x is not a number from 0 to 1024"),
            ("aesthetic,weights=FOLDER,clip=CLIP", "is a folder; it must be sac+logos+ava1-l14-linearMSE.pth"),
            ("hps", "weights= is missing: HPS_v2_compressed.pt"), ("hps,weights=FOLDER", "is a folder; it must be HPS_v2_compressed.pt"),
            (
                "hps,weights=HEAD",
                "/bpe_simple_vocab_16e6.txt.gz: no such file; put open_clip's bpe_simple_vocab_16e6.txt.gz, from https://github.com/"
            ),
            ("hps,weights=HEAD,vocabulary=HEAD", "it is not open_clip's"),
            ("hps,weights=CUT,vocabulary=HEAD", "CUT.pt: cut short; download it again"),
            ("hps,weights=OPENCLIP,vocabulary=HEAD", "head.safetensors is not text, with or without gzip"),
            ("pickscore", "weights= is missing: folder of yuvalkirstain/PickScore_v1"),
            ("clipscore,weights=HEAD", "a file; a model is a folder"), ("clipscore,weights=WIDER", "/preprocessor_config.json: missing"),
            ("imagereward,weights=HEAD", "vocab.txt: no such file; put vocab.txt of google-bert/bert-base-uncased"),
            ("imagereward,weights=HEAD,vocabulary=FOLDER", "is a folder; it must be vocab.txt of google-bert"),
            ("imagereward,weights=HEAD,vocabulary=VOCABULARY", "it is not ImageReward's"),
        ]) func wrongFilesAreOneClearError(plugin: String, part: String) throws
    {
        let golden: Aesthetic = try Self.golden("aesthetic.json")
        try withFolder { folder in
            let head = folder.appendingPathComponent("head.safetensors")
            try Self.write(golden.shapes, to: head)
            let short = folder.appendingPathComponent("SHORT.safetensors")
            try Data(contentsOf: head).dropLast(1000).write(to: short)
            let openCLIP = Self.goldens.appendingPathComponent("open-clip/checkpoint.pt")
            let cut = folder.appendingPathComponent("CUT.pt")
            try Data(contentsOf: openCLIP).dropLast(100).write(to: cut)
            let files = [
                "HEAD": head.path, "CUT": cut.path, "OPENCLIP": openCLIP.path, "SHORT": short.path,
                "CLIP": "\(Self.goldens.path)/clip-vision-2", "FOLDER": folder.path,
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
