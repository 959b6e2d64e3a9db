import ArgumentParser
import CommandSettings
import Commands
import DAGCore
import Foundation
import Models
import NN
import Support
import Tensors

@main
struct EvalCommand: Command {
    static let configuration = CommandConfiguration(
        commandName: "dag-eval",
        abstract: "Says what a beta will give, before training, and how far a LoRA is from that, after it.",
        discussion: """
            Draws images of the pretrained model in the steps of training, scores them, and weighs them by exp(beta s), within each \
            prompt. That is what an exact sampler of p_base(x) exp(beta s(x)) would draw: rewards, modes and diversity for every beta, \
            with standard errors. A LoRA is drawn from with the same prompts and seeds and compared with it.

            EXAMPLES
              What will beta 10, 50 and 200 give?
                dag-eval --config examples/configs/tiny-sd-warmth.yaml \\
                         --beta 10,50,200 --modes red,orange,yellow
              How far did a run get? With plots and images:
                dag-eval --run runs/demo --modes red,orange,yellow \\
                         --output runs/demo/evaluation
              Of another LoRA, without a run:
                dag-eval --model models/tiny-sd --prompts tiny-sd --steps 10 \\
                         --reward-plugin libwarmth.so --lora lora.safetensors --beta 50

            docs/evaluation.md says how to read it.
            """,
        version: DAGVersion.text)

    @OptionGroup(title: "What to evaluate") var subject: SettingFlags<Subject>
    @OptionGroup(title: "What to evaluate") var options: EvaluationOptions
    @OptionGroup(title: SettingGroup.sampling.title) var sampling: SettingFlags<Sampling>

    static func line(for error: any Error) -> String { ErrorReport.line(for: error, .flag, memory: "\(setting: "max_rows_per_pass")") }
    static func isUsageError(_ error: any Error) -> Bool { ErrorReport.isUsageError(error) }

    func execute() throws {
        let configuration = try settings()
        let betas = try betas(configuration)
        let prompts = try configuration.loadPrompts()
        let count = try imagesPerPrompt(prompts)
        let folder = try options.output.map(ReportFolder.init)

        let monitor = Monitor()
        let progress = ProgressLine()
        monitor.onProgress = progress.show
        monitor.onNote = { report("dag-eval: \($0)\n") }
        let signals = onInterrupt(saying: nil, monitor.cancel)
        defer { signals.forEach { $0.cancel() } }
        do {
            let evaluator = try configuration.loadRewards(monitor: monitor)
            let modes = try options.modes.map { try Modes($0, of: evaluator.objectiveNames) }
            let model = try configuration.loadModel(monitor)
            let lora = try adapters(of: model)
            let extractor = try options.features.map { folder in
                try FeatureExtractor(folder: ModelFolder(URL(fileURLWithPath: folder)), device: model.device)
            }
            for line in notes(configuration, model) { report("dag-eval: \(line)\n") }
            if let line = model.tokenizer?.cutLine(prompts.prompts.map(\.text)) { report("dag-eval: warning: \(line)\n") }
            let sampler = try ScoringSampler(configuration, model: model, evaluator: evaluator)
            func withFeatures(_ images: ScoredImages) throws -> ScoredImages {
                var images = images
                images.features = try extractor.map { try ImageFeatures(of: images.images, $0, batch: 16, monitor: monitor) }
                return images
            }
            let drawn = try sampler.draw(prompts, count: count, hasLoRA: lora != nil)
            let base = try withFeatures(drawn.base)
            let own = try drawn.lora.map(withFeatures)
            progress.clear()
            let evaluation = try EvaluationReport(base: base, lora: own, betas: betas, evaluator: evaluator, modes: modes)

            let texts = "\(prompts.name), \(prompts.prompts.count) prompts x \(count) images"
            let network = extractor.map { ", features of \($0.summary)" } ?? ""
            say("\(configuration.model): \(texts), \(configuration.steps) steps\(network)\n")
            say(ReportTable(evaluation).text)
            for line in evaluation.warnings { report("dag-eval: warning: \(line)\n") }
            if let folder {
                try folder.write(evaluation, configuration)
                say("\nTables, plot and images: \(folder.page.relativePath)")
            }
        } catch is Cancelled {
            progress.clear()
            report("dag-eval: stopped before the end; there is no result\n")
            throw ExitCode(130)
        } catch {
            progress.clear()
            throw error
        }
    }

    /// The settings of the file or run, under the flags.
    private func settings() throws -> TrainingConfiguration {
        guard options.config == nil || options.run == nil else {
            throw ConfigurationError("give either \(setting: "config") or \(setting: "run"), not both")
        }
        let run = options.run.map(OutputFolder.init)
        if let run, !run.hasRun {
            throw ConfigurationError("\(setting: "run") \(run.url.relativePath): no run there (config.yaml is missing)")
        }
        var configuration = try TrainingConfiguration.resolve(
            file: run?.configuration.path ?? options.config, overrides: subject.values.merging(sampling.values) { $1 })
        configuration.predictionDecoder = ""  // only final images are decoded
        try configuration.validate()
        try configuration.validateReward()
        return configuration
    }

    /// The betas of the flags, else that of the settings.
    private func betas(_ configuration: TrainingConfiguration) throws -> [Double] {
        let texts = options.beta.flatMap { $0.split(separator: ",", omittingEmptySubsequences: false).map(String.init) }
        var betas: [Double] = []
        for text in texts {
            let changed = try TrainingConfiguration.resolve(base: configuration, file: nil, overrides: ["beta": [text]])
            try changed.validate()
            if !betas.contains(changed.beta) { betas.append(changed.beta) }
        }
        return betas.isEmpty ? [configuration.beta] : betas
    }

    /// Images of each prompt, by default about 1024 in all.
    private func imagesPerPrompt(_ prompts: PromptSet) throws -> Int {
        let most = 1_000_000 / prompts.prompts.count
        guard let count = options.count else { return min(most, max(16, 1024 / prompts.prompts.count)) }
        guard 2...most ~= count else {
            throw ConfigurationError(
                "\(setting: "count") must be from 2 to \(most), with \(prompts.prompts.count) prompts, not \(count)")
        }
        return count
    }

    /// Attaches the LoRA of the flags, or that of the run.
    private func adapters(of model: DiffusionPipeline) throws -> LoRAAdapters? {
        let run = options.run.map { OutputFolder($0).lora.path }.flatMap { FileManager.default.fileExists(atPath: $0) ? $0 : nil }
        let files = options.lora.isEmpty ? [run].compactMap(\.self) : options.lora
        if files.isEmpty { return nil }
        return try LoRAAdapters(contentsOf: files.map(LoRASource.init), attachingTo: model.layers, device: model.device)
    }

    /// Lines about what the reference is not.
    private func notes(_ configuration: TrainingConfiguration, _ model: DiffusionPipeline) -> [String] {
        var lines: [String] = []
        if options.config != nil || options.run != nil {
            if configuration.target == .reward {
                lines.append("these settings train towards exp(beta s); the reference is that times the pretrained model's density")
            }
            if configuration.logProbReduction == .mean {
                let numbers = model.sampleShape.reduce(1, *)
                lines.append("these settings take means of log-densities, so that beta counts \(numbers)-fold in training, not here")
            }
        }
        if !options.lora.isEmpty || options.run != nil, model.dtype == .bfloat16 {
            lines.append("in bf16 a LoRA's distances contain rounding; --precision fp32 has none")
        }
        return lines
    }
}

enum Sampling: FlagGroup { static let group = SettingGroup.sampling }

/// The flags that are no settings of a training.
struct EvaluationOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Settings of a training as YAML, as for dag-train. Flags win over the file.", valueName: "file.yaml"))
    var config: String?
    @Option(help: ArgumentHelp("A run's output folder: its settings, and its LoRA if there is one.", valueName: "dir"))
    var run: String?
    @Option(
        help: ArgumentHelp(
            """
            A LoRA with the names of dag-train (kohya), diffusers or peft: a file, or its folder. May be repeated: their sum is applied, \
            each counting 1 or its weight.
            """, valueName: "file[=weight]"))
    var lora: [String] = []
    @Option(
        parsing: .singleValue,
        help: ArgumentHelp(
            "How strongly the score counts: one beta or several; may be repeated. (default: the settings')", valueName: "x,..."))
    var beta: [String] = []
    @Option(
        help: ArgumentHelp(
            """
            Objectives that are 1 for images of a kind, or its probability, such as red,orange,yellow or bag=share_8,boot=share_9; \
            images of none are other.
            """, valueName: "[name=]objective,..."))
    var modes: String?
    @Option(
        help: ArgumentHelp(
            """
            A folder of CLIP or DINOv2 as transformers saves it: adds the diversity and the Frechet distance of its features.
            """, valueName: "dir"))
    var features: String?
    @Option(help: ArgumentHelp("Images of each prompt. (default: 1024 in all, at least 16 of each)", valueName: "n"))
    var count: Int?
    @Option(help: ArgumentHelp("Folder for tables (JSON, CSV), plot and images (HTML, PNG).", valueName: "dir"))
    var output: String?
}

/// A line about the progress, on a terminal.
private final class ProgressLine {
    private let isTerminal = isatty(STDERR_FILENO) != 0

    func show(_ phase: Monitor.Phase, _ done: Int, _ total: Int) {
        if isTerminal { report("\r\u{1B}[K\(phase.rawValue) \(100 * done / max(1, total))%") }
    }

    func clear() { if isTerminal { report("\r\u{1B}[K") } }
}
