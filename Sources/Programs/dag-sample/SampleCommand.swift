import ArgumentParser
import Commands
import DAGCore
import Foundation
import Rewards
import Images
import Models
import NN
import Support
import Tensors

@main
struct SampleCommand: Command {
    static let configuration = CommandConfiguration(
        commandName: "dag-sample",
        abstract: "Makes images with a diffusion model and, if given, a LoRA.",
        discussion: """
            Image k uses seed + k. In float32 an image is, within rounding, the one that diffusers' StableDiffusionPipeline with \
            DDIMScheduler makes from torch.Generator().manual_seed(seed + k) with the same steps, eta and guidance (1 or more).

            EXAMPLES
              dag-sample --model models/tiny-sd --prompt "a red boot on a blue background" --seed 7 --output boot.png
              dag-sample --model models/tiny-sd --lora runs/warmth/pytorch_lora_weights.safetensors --prompts tiny-sd-open --output images/
              dag-sample --model DIR --lora warm.safetensors=0.7 --lora style.safetensors --prompt "a cat" --output cat.png
            """,
        version: DAGVersion.text)

    @Option(help: ArgumentHelp("Folder of the model in diffusers layout.", valueName: "dir")) var model: String
    @Option(
        help: ArgumentHelp(
            """
            A LoRA with the names of dag-train (kohya), diffusers or peft: a file, or its folder. May be repeated: their sum is applied, \
            each counting 1 or its weight.
            """, valueName: "file[=weight]"))
    var lora: [String] = []
    @Option(help: "The prompt.") var prompt: String?
    @Option(help: ArgumentHelp("Prompt file or the name of a built-in set, instead of --prompt.", valueName: "file|name"))
    var prompts: String?
    @Option(help: "Images of each prompt.") var count = 1
    @Option(help: "Seed of the first image.") var seed: UInt64 = 0
    @Option(help: "Denoising steps.") var steps = 50
    @Option(help: "Scale of the sampling noise: 1 as in training, 0 for deterministic DDIM.") var eta = 1.0
    @Option(help: "Classifier-free guidance; 1 for none.") var guidanceScale = 5.0
    @Option(help: "Height of the images in pixels; 0: the model's.") var height = 0
    @Option(help: "Width of the images in pixels; 0: the model's.") var width = 0
    @Option(help: "Images computed at once.") var batchSize = 16
    @Option(help: "auto, fp32 or bf16.") var precision = "auto"
    @Option(help: "auto, cpu or cuda.") var device = "auto"
    @Option(help: ArgumentHelp("A .png file (several images become a sheet), or a folder for one file each.", valueName: "file.png|dir"))
    var output: String

    static func line(for error: any Error) -> String { ErrorReport.line(for: error, .flag, memory: "\(setting: "batch_size")") }
    static func isUsageError(_ error: any Error) -> Bool { ErrorReport.isUsageError(error) }

    mutating func execute() throws {
        guard prompt == nil || prompts == nil else {
            throw ConfigurationError("give either --prompt TEXT or --prompts FILE, not both")
        }
        for (flag, value) in [("--count", count), ("--batch-size", batchSize)] where !(1...1_000_000).contains(value) {
            throw ConfigurationError("\(flag) must be from 1 to 1000000, not \(value)")
        }
        for (flag, value) in [("--height", height), ("--width", width)] where !(0...8192).contains(value) {
            throw ConfigurationError("\(flag) must be from 0 to 8192, not \(value)")
        }
        for (flag, value) in [("--eta", eta), ("--guidance-scale", guidanceScale)] where !(value >= 0 && Float(value).isFinite) {
            throw ConfigurationError("\(flag) must be a finite number, zero or more, not \(value)")
        }
        guard let precision = Precision(rawValue: precision) else {
            throw ConfigurationError("--precision must be auto, fp32 or bf16, not \(self.precision)")
        }
        guard let device = try DeviceChoice(rawValue: device)?.resolve() else {
            throw ConfigurationError("--device must be auto, cpu or cuda, not \(self.device)")
        }
        let chosen = try prompt.map { [Prompt($0)] } ?? prompts.map { try PromptSet.load($0).prompts } ?? PromptSet.none.prompts

        let target = URL(fileURLWithPath: output)
        let isFile = output.hasSuffix(".png")
        let folder = isFile ? target.deletingLastPathComponent() : target
        do {
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        } catch {
            throw OutputError("--output \(output): \(folder.path) cannot be made; choose another place")
        }
        let pipeline = try DiffusionPipeline(
            folder: model, height: height, width: width, dtype: precision.resolve(on: device), device: device)
        if pipeline.textWidth != nil, prompt == nil, prompts == nil {
            throw ConfigurationError("this model takes text: give --prompt TEXT or --prompts FILE")
        }
        for note in pipeline.notes { report("dag-sample: \(note)\n") }
        if let line = pipeline.tokenizer?.cutLine(chosen.map(\.text)) { report("dag-sample: warning: \(line)\n") }
        _ = try LoRAAdapters(contentsOf: lora.map(LoRASource.init), attachingTo: pipeline.unet.layers, device: device)
        let kernel = try pipeline.kernel(steps: steps, eta: eta, reduction: .mean)
        let sampler = Sampler(model: pipeline, kernel: kernel, guidance: guidanceScale)
        let all = chosen.flatMap { Array(repeating: $0, count: count) }
        let images: ImageBatch
        do {
            images = try sampler.images(all, seeds: all.indices.map { seed &+ UInt64($0) }, batch: batchSize)
        } catch let error as NotFiniteError {
            throw OutputError("--model \(model)\(lora.map { " with --lora \($0)" }.joined()): \(error.message)")
        }

        if isFile {
            let columns = prompts == nil ? Int(Double(all.count).squareRoot().rounded(.up)) : count
            try images.writeSheet(columns: columns, to: target)
        } else {
            for k in all.indices {
                try PNG.write(images, index: k, to: folder.appendingPathComponent(String(format: "%05d.png", k)).path)
            }
        }
        print(output)
    }
}
