import CDAGCore
@testable import CFunctionReward
@testable import DAGCore
import Foundation
@testable import Images
@testable import Models
@testable import NN
@testable import Rewards
@testable import Support
@testable import Tensors

/// The parsers.
enum Target: String, CaseIterable {
    case safetensors, torchFile = "torch-file", pickle, lora
    case unet, vae, textEncoder = "text-encoder", scheduler, modelIndex = "model-index"
    case tokenizer, tokenizerJSON = "tokenizer-json", merges = "open-clip", vocabulary = "wordpiece", text
    case prompts, settings, specification, prototypes
    case png, jpeg
    case worker, classifier

    /// Reads an input.
    /// - Throws: the parser's error.
    func parse(_ input: Data) throws {
        switch self {
        case .safetensors: _ = try Safetensors(contentsOf: Scratch.file("input.safetensors", input)).tensors.mapValues { try $0.bytes() }
        case .torchFile: _ = try TorchFile(contentsOf: Scratch.file("input.bin", input)).tensors.mapValues { try $0.bytes() }
        case .pickle: try parsePickle(input)
        case .lora: _ = try LoRAFile(contentsOf: Scratch.file("lora.safetensors", input), layers: Self.layers)
        case .unet: _ = try UNet(folder: Self.network(input))
        case .vae: _ = try AutoencoderKL(folder: Self.network(input), withEncoder: true)
        case .textEncoder: _ = try CLIPTextModel(folder: Self.network(input))
        case .scheduler: try parseScheduler(input)
        case .modelIndex: try parseIndex(input)
        case .tokenizer: try parseTokenizer(input)
        case .tokenizerJSON: Self.encode(try CLIPTokenizer(folder: Scratch.folder(["tokenizer.json": input])))
        case .merges: Self.encode(try CLIPTokenizer(openCLIP: Scratch.file("bpe.txt.gz", input)))
        case .vocabulary:
            let parts = input.sections(2)
            _ = try WordPieceTokenizer(vocabulary: Scratch.file("vocab.txt", parts[0])).encode(parts[1].text, maxLength: 35)
        case .text: parseText(input.text)
        case .prompts: try parsePrompts(input)
        case .settings: try parseSettings(input)
        case .specification: _ = try RewardSpecification(input.text)
        case .prototypes:
            let parts = input.sections(2)
            _ = try CPrograms(setup: parts[1].text, score: parts[0].text)
        case .png: _ = try ImageFile.read(Scratch.file("image", withChecksums(input)).path)
        case .jpeg: _ = try ImageFile.read(Scratch.file("image", input).path)
        case .worker: try parseAnswer(input)
        case .classifier: try parseClassifier(input)
        }
    }

    // MARK: Tensors

    private func parsePickle(_ input: Data) throws {
        var pickle = Pickle(Array(input)) { view in
            Tensor.zeros([64], dtype: view.dtype).strided(view.sizes, view.strides, offset: view.offset)
        }
        for tensor in try pickle.tensors().values { _ = tensor.shape }
    }

    private static var layers: [String: any AdaptableLayer] {
        let store = ParameterStore(seed: 0, device: .cpu)
        for name in ["to_q", "to_k"] { _ = Linear(4, 4, Scope(store: store, path: "mid_block.attn1.\(name)")) }
        _ = Conv2d(4, 4, kernel: 3, Scope(store: store, path: "mid_block.conv1"))
        return store.layers
    }

    // MARK: Models

    /// Makes a folder with a configuration, and weights without tensors.
    private static func network(_ configuration: Data) throws -> ModelFolder {
        let weights = Data([2, 0, 0, 0, 0, 0, 0, 0] + Array("{}".utf8))
        return try ModelFolder(Scratch.folder(["config.json": configuration, "model.safetensors": weights]))
    }

    private func parseScheduler(_ input: Data) throws {
        let folder = try ModelFolder(Scratch.folder(["scheduler_config.json": input]))
        for samples in [DDIMScheduler.Samples.pixels, .latents] {
            let scheduler = try DDIMScheduler(folder: folder, samples: samples)
            for count in [1, 7, scheduler.alphasCumprod.count] { _ = try? scheduler.steps(count) }
        }
    }

    private func parseIndex(_ input: Data) throws {
        let parts = ["unet", "text_encoder", "vae", "scheduler", "tokenizer"]
        var content = Dictionary(uniqueKeysWithValues: parts.map { ("\($0)/config.json", Data("{}".utf8)) })
        content["model_index.json"] = input
        _ = try PipelineFolder(ModelFolder(Scratch.folder(content)))
    }

    // MARK: Text

    private static let texts = ["", "a photo of a cat", "l'été, 12 ĳ\u{301}sselmeer\r\n &amp;lt; <|endoftext|>"]

    private static func encode(_ tokenizer: CLIPTokenizer) {
        for text in texts { _ = tokenizer.encode(text) }
        _ = tokenizer.cutLine(texts)
    }

    /// Files of a folder, and a text for the tokenizer that they make.
    private func parseTokenizer(_ input: Data) throws {
        let names = ["vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"]
        let parts = input.sections(names.count + 1)
        let files = Dictionary(uniqueKeysWithValues: zip(names, parts).filter { !$1.isEmpty })
        let tokenizer = try CLIPTokenizer(folder: Scratch.folder(files))
        Self.encode(tokenizer)
        _ = tokenizer.encode(parts[names.count].text)
    }

    private static let repository = URL(fileURLWithPath: #filePath + "/../../..").standardizedFileURL
    private static let clip = try! CLIPTokenizer(folder: repository.appendingPathComponent("models/tiny-sd"))
    private static let openCLIP = try! CLIPTokenizer(
        openCLIP: repository.appendingPathComponent("Tests/Goldens/tokenizer/open-clip/bpe.txt.gz"))
    private static let wordPiece = try! WordPieceTokenizer(
        vocabulary: repository.appendingPathComponent("Tests/Goldens/rewards/wordpiece_vocab.txt"))

    private func parseText(_ text: String) {
        for tokenizer in [Self.clip, Self.openCLIP] {
            precondition(tokenizer.encode(text).count == tokenizer.maxLength)
            precondition(tokenizer.encode(text).allSatisfy { 0..<tokenizer.vocabularySize ~= $0 })
        }
        precondition(Self.wordPiece.encode(text, maxLength: 35).allSatisfy { 0..<Self.wordPiece.size ~= $0 })
    }

    /// Reads the input as a file of each kind.
    private func parsePrompts(_ input: Data) throws {
        for type in ["txt", "csv", "tsv", "json", "jsonl"] { _ = try? PromptSet.load(Scratch.file("prompts.\(type)", input).path) }
    }

    // MARK: Settings

    private func parseSettings(_ input: Data) throws {
        let settings = try TrainingConfiguration.resolve(text: input.text)
        try settings.validate()
        // What config.yaml says of a run is what the run has.
        let copy = try TrainingConfiguration.resolve(text: settings.yaml())
        precondition(copy == settings, "config.yaml reads back as other settings")
    }

    // MARK: Images

    /// Sets the checksums of a PNG's chunks, so that mutations get past them.
    private func withChecksums(_ input: Data) -> Data {
        var bytes = Array(input)
        var place = 8
        while place + 12 <= bytes.count {
            let size = bytes[place..<place + 4].reduce(0) { $0 << 8 | Int($1) }
            guard size <= bytes.count - place - 12 else { break }
            let end = place + 8 + size
            var sum = ~UInt32(0)
            for byte in bytes[place + 4..<end] {
                sum ^= UInt32(byte)
                for _ in 0..<8 { sum = sum >> 1 ^ (sum & 1) * 0xEDB8_8320 }
            }
            for (index, shift) in [24, 16, 8, 0].enumerated() { bytes[end + index] = UInt8(truncatingIfNeeded: ~sum >> UInt32(shift)) }
            place = end + 4
        }
        return Data(bytes)
    }

    // MARK: Rewards

    /// Receives an answer as the host does from a worker process, and uses it.
    private func parseAnswer(_ input: Data) throws {
        var sockets: [Int32] = [-1, -1]
        precondition(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &sockets) == 0)
        defer { close(sockets[0]) }
        // A socket holds no more until it is read.
        let sent = Array(input.prefix(1 << 16))
        precondition(send(sockets[1], sent, sent.count, 0) == sent.count)
        close(sockets[1])
        let (answer, data) = try WorkerConnection(socket: sockets[0], peer: -1).receive(WorkerAnswer.self)
        switch answer {
        case .description(let description, _):
            try description.validateNames("reward")
            try description.validate(options: ["quality": "1"], device: "cpu")
            let reward = CallbackReward(name: description.name, objectives: description.objectives) { _ in [] }
            _ = try RewardEvaluator([(RewardSpecification(library: "reward"), reward)])
        case .scores:
            let half = data.count / 4
            guard half > 0, let part = answer.result(data, count: half, objectives: 1) else { return }
            let whole = RewardResult(concatenating: [part, part], counts: [half, half])
            let count = 2 * half
            let images = try ImageBatch(pixels: Array(repeating: 0, count: 3 * count), count: count, height: 1, width: 1)
            let batch = try RewardBatch(
                images: images, prompts: Array(repeating: "", count: count), sampleIDs: (0..<UInt64(count)).map { $0 },
                seeds: (0..<UInt64(count)).map { $0 })
            _ = try RewardScores(whole, of: CallbackReward(name: "reward") { _ in [] }, for: batch)
        case .made, .error: break
        }
    }

    /// Loads weights of the classifier, by the plugin's own reader, and ends the plugin.
    private func parseClassifier(_ input: Data) throws {
        var host = dag_reward_host()
        host.struct_size = UInt32(MemoryLayout<dag_reward_host>.size)
        host.abi_min = 1
        host.abi_max = 1
        host.extension = { _ in nil }
        var message = [CChar](repeating: 0, count: 256)
        message.withUnsafeMutableBufferPointer { message in
            var error = dag_reward_error(
                struct_size: UInt32(MemoryLayout<dag_reward_error>.size), capacity: UInt32(message.count), message: message.baseAddress)
            var table: UnsafePointer<dag_reward_plugin>?
            precondition(dag_reward_entry(&host, &table, &error) == 0)
            let plugin = table!.pointee
            let settings = ["weights": Scratch.file("weights.safetensors", input).path, "classes": "a", "threads": "1"]
            let texts = settings.map { (strdup($0.key), strdup($0.value)) }
            defer { for (key, value) in texts { free(key); free(value) } }
            let pairs = texts.map { dag_reward_setting(key: $0.0, value: $0.1) }
            pairs.withUnsafeBufferPointer { pairs in
                var configuration = dag_reward_config()
                configuration.struct_size = UInt32(MemoryLayout<dag_reward_config>.size)
                configuration.setting_count = UInt32(pairs.count)
                configuration.settings = pairs.baseAddress
                var instance: UnsafeMutableRawPointer?
                if plugin.create(&host, &configuration, &instance, &error) == 0 { plugin.destroy(instance) }
            }
        }
    }
}
