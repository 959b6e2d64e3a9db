import Foundation
import Support
import Tensors
import TestSupport
import Testing

/// Runs the built programs as a user would.
@Suite(.serialized) struct CommandLineTests {
    private let temporary: TemporaryFolder
    private var folder: URL { temporary.url }
    private var output: String { folder.appendingPathComponent("run").path }

    init() throws { temporary = try TemporaryFolder() }

    private func run(_ program: String, _ arguments: [String], interruptFile: String? = nil) throws -> Outcome {
        try Shell.run([program] + arguments, in: folder, interruptFile: interruptFile)
    }

    private func train(_ arguments: [String], interruptFile: String? = nil) throws -> Outcome {
        let small = [
            "--model", tinySD, "--reward-plugin", "libwarmth.so", "--prompts", "tiny-sd", "--steps", "3", "--sample-batch-size", "4",
            "--batches-per-epoch", "1", "--train-batch-size", "2", "--gradient-accumulation-steps", "1", "--precision", "fp32", "--output",
            output,
        ]
        // Later flags replace earlier ones of the same name.
        let replaced = Set(arguments.filter { $0.hasPrefix("--") })
        let kept = stride(from: 0, to: small.count, by: 2).filter { !replaced.contains(small[$0]) }.flatMap { small[$0...$0 + 1] }
        return try run("dag-train", kept + arguments, interruptFile: interruptFile)
    }

    private func write(_ text: String, to name: String) throws -> String {
        let file = folder.appendingPathComponent(name)
        try Data(text.utf8).write(to: file)
        return file.path
    }

    /// A copy of the model with one file changed.
    private func brokenModel(_ file: String, _ change: (Data) -> Data?) throws -> String {
        let copy = folder.appendingPathComponent("model-\(UUID())")
        try FileManager.default.copyItem(atPath: tinySD, toPath: copy.path)
        let target = copy.appendingPathComponent(file)
        let data = try Data(contentsOf: target)
        try FileManager.default.removeItem(at: target)
        if let changed = change(data) { try changed.write(to: target) }
        return copy.path
    }

    /// One line that names the culprit, the right exit code, and nothing written.
    private func expectRefusal(_ outcome: Outcome, status: Int32, naming culprit: String) {
        let lines = outcome.error.split(separator: "\n")
        #expect(outcome.status == status, "\(outcome.error)")
        #expect(lines.count == 1, "\(outcome.error)")
        #expect(outcome.error.contains(culprit), "\(outcome.error)")
        #expect(!FileManager.default.fileExists(atPath: output))
    }

    @Test func usageErrors() throws {
        expectRefusal(try train(["--train-batch-size", "3"]), status: 2, naming: "does not divide")
        expectRefusal(try train(["--prompts", "tiny-ds"]), status: 2, naming: "tiny-ds")
        expectRefusal(try train(["--prompts", write("\n\n", to: "empty.txt")]), status: 2, naming: "empty.txt")
        expectRefusal(try train(["--config", write("betta: 1", to: "run.yaml")]), status: 2, naming: "betta")
        expectRefusal(try train(["--resume", folder.path]), status: 2, naming: "config.yaml is missing")
    }

    /// OpenMP's idle threads sleep soon, unless the user has decided that: libgomp itself says what it has read.
    @Test(arguments: ["dag-train", "dag-sample"]) func idleThreadsSleep(program: String) throws {
        func words(_ variables: [String]) throws -> String {
            let environment = ["-u", "OMP_WAIT_POLICY", "-u", "GOMP_SPINCOUNT", "OMP_DISPLAY_ENV=verbose"] + variables
            let outcome = try Shell.run(environment + [program, "--version"], in: folder)
            #expect(outcome.status == 0 && outcome.out == DAGVersion.text + "\n")
            return outcome.error
        }
        #expect(try words([]).contains("GOMP_SPINCOUNT = '10000'"))
        #expect(try words(["GOMP_SPINCOUNT=7"]).contains("GOMP_SPINCOUNT = '7'"))
        #expect(try words(["OMP_WAIT_POLICY=active"]).contains("GOMP_SPINCOUNT = '30000000000'"))
    }

    @Test func models() throws {
        expectRefusal(try train(["--model", "nowhere"]), status: 1, naming: "nowhere")
        let weights = "unet/diffusion_pytorch_model.safetensors"
        expectRefusal(try train(["--model", brokenModel(weights) { _ in nil }]), status: 1, naming: "no weights")
        expectRefusal(try train(["--model", brokenModel(weights) { $0.dropLast(1000) }]), status: 1, naming: weights)
        expectRefusal(
            try train([
                "--model",
                brokenModel("unet/config.json") {
                    Data(String(decoding: $0, as: UTF8.self).replacing("UNet2DConditionModel", with: "SD3Transformer2DModel").utf8)
                },
            ]),
            status: 1, naming: "SD3Transformer2DModel")
        expectRefusal(
            try train([
                "--model",
                brokenModel("unet/config.json") {
                    Data(String(decoding: $0, as: UTF8.self).replacing("\"in_channels\": 4", with: "\"in_channels\": 8").utf8)
                },
            ]),
            status: 1, naming: "conv_in.weight has shape [64, 4, 3, 3]")
        expectRefusal(
            try train(["--model", brokenModel("tokenizer/tokenizer.json") { _ in Data("{".utf8) }]), status: 1, naming: "tokenizer.json")
    }

    /// An estimate writes nothing, and names the amounts of a run.
    @Test func estimates() throws {
        let outcome = try train(["--estimate"])
        #expect(outcome.status == 0, "\(outcome.error)")
        // 4 trajectories, 3 steps, 2 rows; the distance to the pretrained model at 3 states.
        for (name, number) in [
            ("U-Net rows, sampling", 48), ("U-Net rows, training", 24), ("images decoded", 4), ("predictions decoded", 12),
        ] {
            #expect(outcome.out.contains("\(name.padded(24))\(number) "), "\(outcome.out)")
        }
        #expect(!FileManager.default.fileExists(atPath: output))
        for flags in [["--resume", output], ["--processes", "2"]] {
            expectRefusal(try train(["--estimate"] + flags), status: 2, naming: "leave \(flags[0]) out")
        }
    }

    @Test func plugins() throws {
        expectRefusal(try train(["--reward-plugin", "libnowhere.so"]), status: 1, naming: "libnowhere.so")
        expectRefusal(try train(["--reward-plugin", "libwarmth.so,heat=3"]), status: 1, naming: "heat")
        // A library that is no reward plugin.
        let other = try #require(
            ["/usr/lib/x86_64-linux-gnu/libz.so.1", "/lib/x86_64-linux-gnu/libm.so.6", "/lib/aarch64-linux-gnu/libm.so.6"].first(
                where: FileManager.default.fileExists(atPath:)))
        expectRefusal(try train(["--reward-plugin", other]), status: 1, naming: "dag_reward_entry")
    }

    @Test func outputsThatCannotBeWritten() throws {
        let outcome = try train(["--output", "/proc/nowhere/run"])
        #expect(outcome.status == 1 && outcome.error.contains("/proc/nowhere/run"))
        // A run is never written over.
        try FileManager.default.createDirectory(atPath: output, withIntermediateDirectories: true)
        try Data("precious".utf8).write(to: URL(fileURLWithPath: output + "/config.yaml"))
        let occupied = try train([])
        #expect(occupied.status == 1 && occupied.error.contains("not empty"))
        #expect(try String(contentsOfFile: output + "/config.yaml", encoding: .utf8) == "precious")
        // Nor do two write to one folder; here, this process is the other.
        let shared = folder.appendingPathComponent("shared").path
        try FileManager.default.createDirectory(atPath: shared, withIntermediateDirectories: true)
        let descriptor = open(shared, O_RDONLY)
        defer { close(descriptor) }
        #expect(flock(descriptor, LOCK_EX) == 0)
        let refused = try train(["--output", shared])
        #expect(refused.status == 1 && refused.error.contains("\(shared): is in use by another trainer"), "\(refused.error)")
    }

    /// The numbers of the optimiser steps in metrics.jsonl, which has lines of evaluations too.
    private func steps() throws -> [Int] {
        try String(contentsOfFile: output + "/metrics.jsonl", encoding: .utf8).split(separator: "\n").compactMap { line in
            try #require(JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])["step"] as? Int
        }
    }

    /// Train, stop with Ctrl-C, go on, and sample with the result.
    @Test(.slow) func stopResumeAndSample() throws {
        // Epochs of four samples and two steps: the reward makes a file in the third and hangs, and the file has the run stopped.
        let once = folder.appendingPathComponent("once").path
        let reward = try "\(plugin("faulty", in: folder)),fault=hang,at=9,once=\(once),timeout=600"
        let stopped = try train(
            ["--reward-plugin", reward, "--epochs", "400", "--evaluation-samples", "4"], interruptFile: once)
        #expect(stopped.status == 130, "\(stopped)")
        #expect(stopped.out.contains("--resume"))
        #expect(try steps() == Array(0..<4))
        let again = try run("dag-train", ["--resume", output, "--epochs", "3", "--evaluation-samples", "4"])
        #expect(again.status == 0, "\(again.error)")
        #expect(try steps() == Array(0..<6))
        for name in ["pytorch_lora_weights.safetensors", "metrics.jsonl", "config.yaml", "samples/epoch-0.png"] {
            #expect(FileManager.default.fileExists(atPath: output + "/" + name), "\(name)")
        }
        let image = folder.appendingPathComponent("x.png").path
        let sampled = try run(
            "dag-sample",
            [
                "--model", tinySD, "--lora", output + "/pytorch_lora_weights.safetensors", "--prompt", "a bag", "--steps", "4", "--output",
                image,
            ])
        #expect(sampled.status == 0 && FileManager.default.fileExists(atPath: image), "\(sampled.error)")
        let refused = try run(
            "dag-sample", ["--model", tinySD, "--lora", output + "/metrics.jsonl", "--prompt", "a bag", "--output", image])
        #expect(refused.status == 1 && refused.error.contains("metrics.jsonl"))
        #expect(try run("dag-sample", ["--model", tinySD, "--output", image]).error.contains("takes text"))
        #expect(try run("dag-sample", ["--model", tinySD, "--output", image]).status == 2)
    }

    /// Ctrl-C does not wait for a reward that hangs.
    @Test(.timeLimit(.minutes(5))) func stopsWhileARewardHangs() throws {
        let once = folder.appendingPathComponent("once").path
        let reward = try "\(plugin("faulty", in: folder)),fault=hang,at=5,once=\(once),timeout=600"
        let stopped = try train(["--reward-plugin", reward], interruptFile: once)
        #expect(stopped.status == 130 && stopped.out.contains("stopped and saved"), "\(stopped)")
        #expect(FileManager.default.fileExists(atPath: output + "/checkpoints"))
    }

    /// The flags of dag-train are those of docs/configuration.md, with the same defaults.
    @Test func flagsAreDocumented() throws {
        struct Dump: Decodable {
            struct Argument: Decodable {
                struct Name: Decodable { let name: String }
                let preferredName: Name
                let kind: String
                let valueName: String?
                let abstract: String?
            }
            struct Command: Decodable { let arguments: [Argument] }
            let command: Command
        }
        let dump = try JSONDecoder().decode(Dump.self, from: Data(run("dag-train", ["--experimental-dump-help"]).out.utf8))
        let shown = dump.command.arguments.filter { !["help", "version"].contains($0.preferredName.name) }
        let page = try String(contentsOf: repository.appendingPathComponent("docs/configuration.md"), encoding: .utf8)
        let rows = page.split(separator: "\n").filter { $0.hasPrefix("| `--") }.map { $0.components(separatedBy: " | ") }
        #expect(shown.count == rows.count)
        for argument in shown {
            let value = argument.kind == "flag" ? "" : " <\(argument.valueName ?? "")>"
            let flag = "`--\(argument.preferredName.name)\(value)`".replacing("|", with: "\\|")
            let row = try #require(rows.first { $0[0] == "| " + flag }, "\(flag)")
            let unset = argument.abstract?.firstMatch(of: /\(default: (.*)\)$/)?.1
            let isNoSetting = ["output", "config", "resume", "processes", "estimate"].contains(argument.preferredName.name)
            #expect(isNoSetting || row[1] == unset ?? "required", "\(flag)")
        }
    }

    /// Values that a flag cannot have are refused with the flag's name.
    @Test func wrongValues() throws {
        expectRefusal(try train(["--beta", "much"]), status: 2, naming: "dag-train: --beta: 'much' is not a finite number, zero or more")
        expectRefusal(try train(["--algorithm", "ppo"]), status: 2, naming: "--algorithm: 'ppo' is not one of dag-db, dag-kl")
        expectRefusal(try train(["--lora-rank", "0"]), status: 2, naming: "--lora-rank must be from 1 to 1000000, not 0")
        let file = try write("beta: much", to: "bad.yaml")
        expectRefusal(
            try train(["--config", file]), status: 2, naming: "--config \(file): beta: 'much' is not a finite number, zero or more")
        let unknown = try train(["--bta", "1"])
        #expect(unknown.status == 2 && unknown.error.contains("Did you mean '--beta'?"))
    }

    /// Numbers that no flag can have are refused with the flag and the number, before anything is made.
    @Test(arguments: [
        ("dag-sample", "--eta", "nan"), ("dag-sample", "--eta", "1e400"), ("dag-sample", "--eta", "-0.5"), ("dag-sample", "--eta", "1e39"),
        ("dag-sample", "--guidance-scale", "inf"), ("dag-sample", "--guidance-scale", "-1"), ("dag-sample", "--count", "0"),
        ("dag-sample", "--count", "1000001"), ("dag-sample", "--batch-size", "-1"), ("dag-sample", "--steps", "0"),
        ("dag-sample", "--steps", "1001"), ("dag-sample", "--steps", "1e3"), ("dag-sample", "--steps", "99999999999999999999"),
        ("dag-sample", "--seed", "-1"), ("dag-sample", "--seed", "18446744073709551616"), ("dag-sample", "--precision", "fp16"),
        ("dag-train", "--learning-rate", "1e400"), ("dag-train", "--steps", "1001"), ("dag-train", "--beta", "-1"),
        ("dag-train", "--seed", "1e3"), ("dag-reward", "--time-limit", "nan"), ("dag-reward", "--time-limit", "1e400"),
        ("dag-reward", "--time-limit", "-0"),
    ])
    func numbersThatAreNone(program: String, flag: String, value: String) throws {
        let image = folder.appendingPathComponent("images/x.png").path
        let given = "\(flag)=\(value)"
        let outcome =
            switch program {
            case "dag-train": try train([flag + "=" + value])
            case "dag-sample": try run(program, ["--model", tinySD, "--prompt", "a bag", "--output", image, given])
            default: try run(program, ["check", "libwarmth.so", given])
            }
        let shown = ["1e400": "inf", "1e39": "1e+39", "-0": "-0.0"]
        #expect(outcome.status == 2 && outcome.error.contains(flag), "\(outcome.error)")
        #expect(outcome.error.contains(value) || outcome.error.contains(shown[value] ?? value), "\(outcome.error)")
        #expect(!FileManager.default.fileExists(atPath: image) && !FileManager.default.fileExists(atPath: output))
    }

    /// Settings of dag-eval that take a moment.
    private func evaluate(_ arguments: [String]) throws -> Outcome {
        let prompts = try write("a bag on a red background\na boot on a blue background\n", to: "prompts.txt")
        return try run(
            "dag-eval",
            [
                "--model", tinySD, "--reward-plugin", "libwarmth.so", "--prompts", prompts, "--steps", "2", "--count", "3", "--precision",
                "fp32",
            ] + arguments)
    }

    /// What betas will give, and how far a LoRA is from that.
    @Test func evaluation() throws {
        let lora = folder.appendingPathComponent("lora.safetensors")
        let adapters = ["down": Tensor.full([1, 64], 0.3), "up": Tensor.full([64, 1], 0.3)]
        let names = adapters.map { ("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_\($0).weight", $1) }
        try Safetensors.encode(Dictionary(uniqueKeysWithValues: names)).write(to: lora)
        let place = folder.appendingPathComponent("evaluation")
        let subject = ["--lora", lora.path, "--beta", "1,5", "--beta", "1e3", "--modes", "red,orange,yellow"]
        let outcome = try evaluate(subject + ["--output", place.path])
        #expect(outcome.status == 0, "\(outcome.error)")
        #expect(outcome.out.contains("pretrained") && outcome.out.contains("beta 1000") && outcome.out.contains("lora_kl_to_target"))
        #expect(outcome.error.contains("beta 1000 is too uneven to tell: by their weights 6 images are worth"), "\(outcome.error)")
        let files = try FileManager.default.contentsOfDirectory(atPath: place.path).sorted()
        let sheets = ["LoRA.png", "beta-1.png", "beta-1000.png", "beta-5.png", "pretrained.png"]
        #expect(files == (sheets + ["evaluation.csv", "evaluation.html", "evaluation.json"]).sorted())
        func number(_ sampler: String, _ key: String) throws -> Double {
            let data = try Data(contentsOf: place.appendingPathComponent("evaluation.json"))
            let json = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
            return try #require(((json[sampler] as? [String: Any])?[key] as? [String: Any])?["value"] as? Double)
        }
        let distance = try number("lora", "base_kl")
        let reward = try number("base", "reward")
        #expect(distance > 0)
        let page = try String(contentsOf: place.appendingPathComponent("evaluation.html"), encoding: .utf8)
        let plot = try #require(page.firstMatch(of: /<svg(?s:.*)<\/svg>/)?.0)
        #expect(plot.contains("<circle") && plot.contains("LoRA") && !plot.contains("nan"))
        #expect(page.components(separatedBy: "data:image/png").count == 6)
        // Batches change nothing but rounding.
        #expect(try evaluate(subject + ["--output", place.path, "--max-rows-per-pass", "4"]).status == 0)
        #expect(try abs(number("lora", "base_kl") - distance) < 1e-3 * distance && abs(number("base", "reward") - reward) < 1e-3)
    }

    /// Features by a CLIP of the user's, in tables and files.
    @Test func evaluationByFeatures() throws {
        let clip = folder.appendingPathComponent("clip")
        try FileManager.default.createDirectory(at: clip, withIntermediateDirectories: true)
        for name in ["config.json", "model.safetensors"] {
            let source = repository.appendingPathComponent("Tests/Goldens/rewards/clip-vision-2/\(name)")
            try FileManager.default.copyItem(at: source, to: clip.appendingPathComponent(name))
        }
        _ = try write(#"{"size": 28, "crop_size": 28}"#, to: "clip/preprocessor_config.json")
        let place = folder.appendingPathComponent("features")
        let outcome = try evaluate(["--features", clip.path, "--beta", "1", "--output", place.path])
        #expect(outcome.status == 0 && outcome.out.contains("features of CLIP in \(clip.path), a ViT of 2 layers"), "\(outcome)")
        let json = try JSONSerialization.jsonObject(with: Data(contentsOf: place.appendingPathComponent("evaluation.json")))
        let base = try #require((json as? [String: Any])?["base"] as? [String: Any])
        let diversity = try #require((base["feature_diversity"] as? [String: Any])?["value"] as? Double)
        #expect(diversity > 0 && diversity < 2 && base["frechet_distance_of_halves"] as? Double ?? 0 > 0, "\(base)")
        let reference = try #require(((json as? [String: Any])?["reference"] as? [[String: Any]])?.first)
        #expect(reference["frechet_distance"] as? Double ?? 0 > 0)
    }

    /// Ctrl-C ends an evaluation, even while a reward hangs.
    @Test(.timeLimit(.minutes(5))) func evaluationsStop() throws {
        let once = folder.appendingPathComponent("once").path
        let reward = try "\(plugin("faulty", in: folder)),fault=hang,at=2,once=\(once),timeout=600"
        let subject = ["--model", tinySD, "--prompts", "tiny-sd", "--steps", "2", "--count", "2", "--reward-plugin", reward]
        let stopped = try run("dag-eval", subject, interruptFile: once)
        #expect(stopped.status == 130 && stopped.out.isEmpty, "\(stopped)")
        #expect(stopped.error.contains("dag-eval: stopped before the end; there is no result"), "\(stopped)")
    }

    /// Flags and files of dag-eval that cannot be used are refused in one line, before anything is drawn.
    @Test func evaluationsThatCannotBe() throws {
        let place = folder.appendingPathComponent("none")
        let settings = try write("model: \(tinySD)\nprompts: tiny-sd\n", to: "no-reward.yaml")
        let refusals: [(arguments: [String], status: Int32, culprit: String)] = [
            (["--beta", "much"], 2, "dag-eval: --beta: 'much' is not a finite number, zero or more"),
            (["--beta", "1,,2"], 2, "--beta: '' is not a finite number"),
            (["--beta=-1"], 2, "--beta must be zero or more, not -1"),
            (["--count", "1"], 2, "--count must be from 2 to"),
            (["--prompts", ""], 2, "--prompts is missing"),
            (["--modes", "green"], 2, "--modes: no reward has the objective 'green'; there are warmth/warmth, warmth/red"),
            (["--run", folder.path], 2, "no run there (config.yaml is missing)"),
            (["--run", folder.path, "--config", settings], 2, "give either --config or --run, not both"),
            (["--output", "/proc/nowhere"], 1, "--output /proc/nowhere: is no folder that can be written"),
            (["--lora", settings], 1, settings), (["--model", "nowhere"], 1, "nowhere"),
            (["--features", tinySD + "/unet"], 1, "tiny-sd/unet/preprocessor_config.json: missing"),
        ]
        for (arguments, status, culprit) in refusals {
            let output = arguments.contains("--output") ? [] : ["--output", place.path]
            expectRefusal(try evaluate(arguments + output), status: status, naming: culprit)
            #expect((try? FileManager.default.contentsOfDirectory(atPath: place.path)) ?? [] == [])
        }
        expectRefusal(try run("dag-eval", ["--config", settings]), status: 2, naming: "--reward-plugin is missing")
    }

    /// A LoRA that gives numbers that are not finite: an error that names it, and no black image.
    @Test func divergedAdapters() throws {
        let file = folder.appendingPathComponent("lora.safetensors")
        let adapters = ["down": Tensor.full([1, 64], 1e30), "up": Tensor.full([64, 1], 1e30)]
        let names = adapters.map { ("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_\($0).weight", $1) }
        try Safetensors.encode(Dictionary(uniqueKeysWithValues: names)).write(to: file)
        let image = folder.appendingPathComponent("x.png").path
        let outcome = try run(
            "dag-sample", ["--model", tinySD, "--lora", file.path, "--prompt", "a bag", "--steps", "4", "--output", image])
        #expect(outcome.status == 1, "\(outcome.error)")
        let line = "dag-sample: --model \(tinySD) with --lora \(file.path): the network's output is not finite at step 1 of 4, but is "
        #expect(outcome.error.hasPrefix(line + "without the LoRA, which has diverged"), "\(outcome.error)")
        #expect(!FileManager.default.fileExists(atPath: image))
    }

    /// All places that name the version name that of Version.swift.
    @Test(arguments: [
        ("python/dagcore/__init__.py", "__version__ = \"VERSION\"\n"), ("README.md", "**Status:** version VERSION."),
        ("CITATION.cff", "\nversion: VERSION\n"), ("CHANGELOG.md", "\n## VERSION ("),
    ]) func versionIsTheSameEverywhere(file: String, line: String) throws {
        let text = try String(contentsOf: repository.appendingPathComponent(file), encoding: .utf8)
        #expect(text.contains(line.replacing("VERSION", with: DAGVersion.text)))
    }

    @Test func help() throws {
        for program in ["dag-train", "dag-sample", "dag-eval", "dag-report", "dag-lora"] {
            let help = try run(program, ["--help"])
            #expect(help.status == 0 && help.out.contains("EXAMPLES"))
            #expect(try run(program, ["--version"]).out.contains(DAGVersion.text))
        }
        #expect(try run("dag-train", ["--bogus"]).status == 2)
    }
}
