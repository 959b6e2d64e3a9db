import Foundation
import Tensors
import TestSupport
import Testing

@testable import DAGCore

@Suite struct ConfigurationTests {
    private func file(_ text: String) throws -> (TemporaryFolder, String) {
        let folder = try TemporaryFolder()
        let path = folder.url.appendingPathComponent("run.yaml").path
        try Data(text.utf8).write(to: URL(fileURLWithPath: path))
        return (folder, path)
    }

    /// A configuration with one setting given as on a command line.
    private func configuration(_ setting: any SettingDeclaration, _ value: String) throws -> TrainingConfiguration {
        try .resolve(base: smallConfiguration(), file: nil, overrides: [setting.key: [value]])
    }

    /// A configuration in which one setting has not the value of `smallConfiguration`.
    private func changed(_ setting: any SettingDeclaration) throws -> TrainingConfiguration {
        let candidates = setting.placeholder.split(separator: "|").map(String.init) + ["0.123", "7", "other"]
        return try #require(
            candidates.compactMap { try? configuration(setting, $0) }.first { !setting.isEqual($0, smallConfiguration()) })
    }

    @Test func flagsWinOverTheFileAndTheFileOverTheDefaults() throws {
        let (folder, path) = try file("model: a\nbeta: 5\nreward_plugin: libx.so\nalgorithm: dag-kl\n")
        let resolved = try TrainingConfiguration.resolve(file: path, overrides: ["beta": ["6", "7"], "steps": ["10"]])
        withExtendedLifetime(folder) {}
        #expect(resolved.model == "a" && resolved.beta == 7 && resolved.steps == 10 && resolved.algorithm == .dagKL)
        #expect(resolved.rewardPlugin == ["libx.so"])
        #expect(resolved.sampleBatchSize == 16 && resolved.learningRate == 3e-4 && resolved.seed == 0)
        #expect(try TrainingConfiguration.resolve(file: nil, overrides: ["reward_plugin": ["a", "b"]]).rewardPlugin == ["a", "b"])
    }

    /// Each property is a setting, whose key is the property's name.
    @Test func everyPropertyIsASetting() {
        let properties = Mirror(reflecting: TrainingConfiguration()).children.compactMap(\.label)
        let keys = properties.map { $0.replacing(/[A-Z]/) { "_" + $0.output.lowercased() } }
        #expect(TrainingConfiguration.settings.map(\.key) == keys)
    }

    @Test func everySettingGoesThroughYAMLAndJSON() throws {
        for setting in TrainingConfiguration.settings {
            let configuration = try changed(setting)
            #expect(try TrainingConfiguration.resolve(text: configuration.yaml()) == configuration, "\(setting.key)")
            #expect(try TrainingConfiguration.resolve(text: configuration.json()) == configuration, "\(setting.key)")
        }
        // Texts that YAML would take for something else.
        for text in ["true", "7", "1e3", "", "~", "a: b", "# c", " d ", "\"e\"", "'f'", "g\nh", "ü", "[i]"] {
            let configuration = smallConfiguration {
                $0.model = text
                $0.rewardPlugin = [text, text]
                $0.seed = .max
            }
            #expect(try TrainingConfiguration.resolve(text: configuration.yaml()) == configuration, "\(text)")
        }
    }

    private static let numbers: [(Double, String)] = [
        (50, "50"), (0, "0"), (-0.0, "-0"), (1, "1"), (0.5, "0.5"), (0.001, "0.001"), (0.0125, "0.0125"), (1e-4, "1e-4"), (3e-4, "3e-4"),
        (2.5e-4, "2.5e-4"), (-1.25e-4, "-1.25e-4"), (1e-5, "1e-5"), (1.5e-12, "1.5e-12"), (1e16, "1e+16"), (100, "100"),
        (1 / 3, "0.3333333333333333"), (10.0001, "10.0001"),
    ]

    @Test(arguments: numbers)
    func numbersAreWrittenAsPeopleDo(number: Double, text: String) { #expect(number.shortText == text) }

    @Test func numbersKeepTheirBits() throws {
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<2000 {
            let number = Double(bitPattern: generator.next())
            guard Float(number).isFinite, Float(number) != 0 else { continue }
            let read = try TrainingConfiguration.resolve(text: smallConfiguration { $0.eta = number }.yaml())
            #expect(read.eta.bitPattern == number.bitPattern, "\(number)")
        }
    }

    /// What runs out of memory names the settings that help, of the program at hand.
    @Test func memoryHasARemedy() throws {
        let error = try #require(#expect(throws: TensorError.self) { try Tensor.zeros([1 << 50]).array(Float.self) })
        let trainer =
            "; lower --train-batch-size, --max-rows-per-pass or --sample-batch-size, or set --gradient-checkpointing true"
        #expect(ErrorReport.line(for: error, .flag).hasSuffix(trainer))
        #expect(ErrorReport.line(for: error, .flag, memory: "\(setting: "batch_size")").hasSuffix("; lower --batch-size"))
    }

    /// Files of earlier versions had 5e+1 for 50.
    @Test func olderFilesAreRead() throws {
        let read = try TrainingConfiguration.resolve(text: "beta: 5e+1\nlearning_rate: 3e-4\neta: 1e+0\nsubtb_lambda: 9e-1\nseed: 3\n")
        #expect(read.beta == 50 && read.learningRate == 3e-4 && read.eta == 1 && read.subtbLambda == 0.9 && read.seed == 3)
    }

    @Test(arguments: [
        ("bta: 5\n", "unknown key 'bta'; did you mean beta? known are algorithm,"),
        ("learning-rate: 1\n", "did you mean learning_rate?"), ("colour: red\n", "unknown key 'colour'; known are algorithm,"),
        ("beta: much\n", "run.yaml: beta: 'much' is not a finite number, zero or more"),
        ("algorithm: ppo\n", "algorithm: 'ppo' is not one of dag-db, dag-kl"), ("- a\n", "mapping"), ("", "mapping"),
        ("beta: [1\n", "run.yaml"), ("steps: 2.5\n", "steps: '2.5' is not a whole number, from 1 to 1000000"),
        ("steps: '4'\n", "steps: '4'"),
        ("steps: [4]\n", "steps: a list is not a whole number"), ("seed: -1\n", "seed: '-1'"),
        ("steps: 1:30\n", "steps: '1:30'"), ("beta: 1:30.5\n", "beta: '1:30.5'"), ("beta: {a: 1}\n", "nothing nested"),
        ("per_prompt_statistics: 7\n", "'7' is not true or false"), ("beta: ~\n", "beta"),
    ])
    func badFiles(text: String, culprit: String) throws {
        let (folder, path) = try file(text)
        let error = #expect(throws: ConfigurationError.self) { try TrainingConfiguration.resolve(file: path) }
        withExtendedLifetime(folder) {}
        let message = try #require(error?.message)
        #expect(message.text(.flag).contains(culprit) && !message.text(.flag).contains("\n"), "\(message)")
        #expect(message.text(.flag).hasPrefix("--config \(path): ") && message.description.hasPrefix("config \(path): "))
    }

    /// Values of the wrong kind and beyond the limits name the setting, as the user knows it.
    @Test func badValuesNameTheirSetting() throws {
        func names(_ setting: any SettingDeclaration, _ error: ConfigurationError?) -> Bool {
            let flag = "--" + setting.key.replacing("_", with: "-")
            guard let message = error?.message, message.text(.flag).hasPrefix(flag) else { return false }
            return message.description.hasPrefix(setting.key) && !message.description.contains("--")
        }
        for setting in TrainingConfiguration.settings {
            let value = setting.text(of: TrainingConfiguration())
            let isNumber = Double(value) != nil
            if isNumber || setting.placeholder.contains("|"), setting.key != "evaluation_prompts", setting.key != "prompts" {
                let error = #expect(throws: ConfigurationError.self) { try configuration(setting, "much") }
                #expect(names(setting, error), "\(setting.key): \(error?.description ?? "")")
            }
            guard isNumber, setting.key != "seed" else { continue }
            // Whole numbers have limits on both sides; others must be finite.
            for bad in setting.placeholder == "x" ? ["-1", ".nan", ".inf"] : ["-1", "1000001"] {
                let error = #expect(throws: ConfigurationError.self) { try configuration(setting, bad).validate() }
                #expect(names(setting, error), "\(setting.key): \(error?.description ?? "")")
            }
        }
    }

    /// No number that is not finite, or is too large or too small for 32 bits, gets in, and each is shown as it was
    /// written.
    @Test(arguments: [
        "nan", ".nan", "NaN", "inf", "-inf", ".inf", "-.inf", "Infinity", "1e400", "-1e400", "1e39", "-1e39", "1e-60", "0x1p1024",
        String(repeating: "9", count: 400),
    ])
    func numbersThatAreNone(text: String) throws {
        for setting in TrainingConfiguration.settings where Double(setting.text(of: TrainingConfiguration())) != nil {
            for json in [false, true] {
                let error = #expect(throws: ConfigurationError.self, "\(setting.key)") {
                    _ = json ? try TrainingConfiguration.resolve(text: "{\"\(setting.key)\": \(text)}") : try configuration(setting, text)
                }
                #expect(error?.description.contains("\(setting.key): '\(text)' is not a ") == true, "\(error?.description ?? "")")
            }
        }
    }

    /// Whole numbers beyond 64 bits, and negative ones.
    @Test(arguments: ["9223372036854775808", "-9223372036854775809", "1000001", "-1", "1e3", "2.0", "-0.5"])
    func wholeNumbersThatAreNone(text: String) throws {
        for setting in TrainingConfiguration.settings where setting.placeholder == "n" && setting.key != "seed" {
            let error = #expect(throws: ConfigurationError.self, "\(setting.key)") { try configuration(setting, text).validate() }
            #expect(error?.description.contains(text) == true, "\(error?.description ?? "")")
        }
        let seed = try #require(TrainingConfiguration.settings.first { $0.key == "seed" })
        if !["9223372036854775808", "1000001"].contains(text) {
            #expect(throws: ConfigurationError.self) { try configuration(seed, text) }
        }
    }

    /// The limits of each setting, and the rules that connect several.
    @Test func limits() throws {
        let positive = [
            "learning_rate", "flow_learning_rate", "clip_range", "max_grad_norm", "eta", "subtb_lambda", "timestep_fraction",
        ]
        let whole = [
            "epochs", "sample_batch_size", "batches_per_epoch", "images_per_prompt", "train_batch_size", "gradient_accumulation_steps",
            "lora_rank", "steps", "checkpoint_every", "flow_every", "replay_updates", "flow_updates",
        ]
        for setting in TrainingConfiguration.settings where Double(setting.text(of: TrainingConfiguration())) != nil {
            let zero = try configuration(setting, "0")
            if (positive + whole).contains(setting.key) {
                #expect(throws: ConfigurationError.self, "\(setting.key)") { try zero.validate() }
            } else {
                #expect(throws: Never.self, "\(setting.key)") { try zero.validate() }
            }
        }
        let cases: [(String, (inout TrainingConfiguration) -> Void)] = [
            ("--model is missing", { $0.model = "" }), ("--eta must be above zero, not 0: without noise", { $0.eta = 0 }),
            ("--flow-network is for algorithms with a state flow; ddpo", { ($0.algorithm, $0.flowNetwork) = (.ddpo, .encoder) }),
            ("--subtb-lambda must be above zero and at most 1, not 1.5", { $0.subtbLambda = 1.5 }),
            ("--threads must be from 0 to 1024, not 1025", { $0.threads = 1025 }),
            ("(--train-batch-size x --gradient-accumulation-steps)", { $0.trainBatchSize = 3 }),
            ("(--sample-batch-size x --batches-per-epoch) is more than 1000000", { $0.batchesPerEpoch = 1_000_000 }),
            (
                "--train-batch-size must be from 3",
                {
                    $0.algorithm = .dagKL
                    $0.trainBatchSize = 2
                }
            ),
            (
                "--algorithm dag-tb needs",
                {
                    $0.algorithm = .dagTB
                    $0.forwardLooking = .current
                }
            ),
            ("--target reward is not what dag-replay can reach", { $0.algorithm = .dagReplay }),
            ("--target reward is not what dag-nabla can reach", { $0.algorithm = .dagNabla }),
            (
                "--beta-annealing 0.5: dag-nabla learns its target in an epoch",
                { ($0.algorithm, $0.target, $0.betaAnnealing) = (.dagNabla, .anchored, 0.5) }
            ),
            (
                "--prediction-decoder is for algorithms that score predicted data; dag-replay",
                { ($0.algorithm, $0.target, $0.predictionDecoder) = (.dagReplay, .anchored, "x") }
            ),
            ("--flow-every is for dag-db, dag-kl and dag-subtb; dag-tb has", { ($0.algorithm, $0.flowEvery) = (.dagTB, 2) }),
            ("--flow-every is for dag-db, dag-kl and dag-subtb; ddpo balances no flows", { ($0.algorithm, $0.flowEvery) = (.ddpo, 2) }),
            (
                "--flow-every 2 needs the scores of several transitions at once: use --forward-looking rollout",
                { ($0.flowEvery, $0.forwardLooking) = (2, .current) }
            ),
            ("--timestep-fraction below 1 is for sums over transitions", { ($0.algorithm, $0.timestepFraction) = (.dagSubTB, 0.5) }),
            ("--images-per-prompt must be at least 2 and divide it, not 1", { $0.algorithm = .dagVarGrad }),
            ("--images-per-prompt must be at least 2 and divide it, not 8", { ($0.algorithm, $0.imagesPerPrompt) = (.dagVarGrad, 8) }),
            ("--timestep-fraction below 1 is for sums over transitions", { ($0.flowEvery, $0.timestepFraction) = (2, 0.5) }),
            (
                "--replay-updates says how many dag-replay and dag-nabla train on",
                { ($0.algorithm, $0.target, $0.timestepFraction) = (.dagNabla, .anchored, 0.5) }
            ),
            (
                "--timestep-fraction below 1 leaves out states whose scores",
                { ($0.forwardLooking, $0.timestepFraction) = (.current, 0.5) }
            ),
            (
                "does not divide into prompts of --images-per-prompt 3",
                { $0.imagesPerPrompt = 3 }
            ),
            ("grpo compares the images of a prompt in an epoch: --images-per-prompt", { $0.algorithm = .grpo }),
            ("--base-kl-coefficient is for ddpo and grpo; dag-db", { $0.baseKlCoefficient = 0.1 }),
            (
                "--target anchored is for the dag algorithms; grpo",
                { ($0.algorithm, $0.target, $0.imagesPerPrompt) = (.grpo, .anchored, 2) }
            ),
            (
                "--target anchored",
                {
                    $0.algorithm = .ddpo
                    $0.target = .anchored
                }
            ),
        ]
        for (message, change) in cases {
            let error = #expect(throws: ConfigurationError.self) { try smallConfiguration(change).validate() }
            #expect(error?.message.text(.flag).contains(message) == true, "\(error?.description ?? "")")
        }
    }

    /// A setting is fixed unless it is in this list.
    @Test func aRunKeepsWhatItsCheckpointDependsOn() throws {
        let mayChange: Set = [
            "reward_plugin", "beta", "beta_annealing", "learning_rate", "flow_learning_rate", "lr_scheduler", "lr_warmup_steps",
            "kl_coefficient", "base_kl_coefficient", "unet_regularization", "clip_range", "replay_updates",
            "replay_buffer_size", "subtb_lambda", "timestep_fraction", "per_prompt_statistics", "weight_decay",
            "max_grad_norm", "epochs", "device", "max_rows_per_pass", "gradient_checkpointing", "threads", "evaluation_samples",
            "evaluation_prompts", "evaluation_steps", "sample_every", "checkpoint_every",
        ]
        let old = smallConfiguration()
        try old.validate(continuing: old)
        for setting in TrainingConfiguration.settings {
            let new = try changed(setting)
            if mayChange.contains(setting.key) {
                #expect(throws: Never.self, "\(setting.key)") { try new.validate(continuing: old) }
            } else {
                let error = #expect(throws: ConfigurationError.self, "\(setting.key)") { try new.validate(continuing: old) }
                let change = "\(setting.key) was \(setting.text(of: old)) and cannot change to \(setting.text(of: new))"
                #expect(error?.description.contains(change) == true)
                #expect(error?.message.text(.flag).hasPrefix("--resume: --\(setting.key.prefix(3))") == true)
            }
        }
    }

    @Test func betaGrowsOverTheFirstHalf() {
        let c = smallConfiguration {
            $0.beta = 100
            $0.betaAnnealing = 0.5
            $0.epochs = 8
        }
        #expect((0..<8).map(c.beta(epoch:)) == [0, 25, 50, 75, 100, 100, 100, 100])
    }

    /// Factors of three steps of warm-up and five more, as diffusers' get_scheduler gives them.
    @Test func learningRatesAreThoseOfDiffusers() {
        let after: [(LearningRateScheduler, [Double])] = [
            (.constant, [1, 1, 1, 1, 1]), (.linear, [1, 0.8, 0.6, 0.4, 0.2]), (.cosine, [1, 0.904508, 0.654508, 0.345492, 0.095492]),
        ]
        for (scheduler, factors) in after {
            let configuration = smallConfiguration { ($0.epochs, $0.lrScheduler, $0.lrWarmupSteps) = (4, scheduler, 3) }
            #expect(configuration.updatesPerEpoch == 2)
            for (step, expected) in ([0, 0.333333, 0.666667] + factors).enumerated() {
                #expect(abs(configuration.learningRateFactor(step: step, updatesPerEpoch: 2) - expected) < 1e-6)
            }
        }
    }

    /// A group that names settings of others has all that it names.
    @Test func samplingHasItsSettings() {
        #expect(
            SettingGroup.sampling.settings.map(\.key) == [
                "steps", "eta", "guidance_scale", "height", "width", "precision", "device", "max_rows_per_pass", "threads", "seed",
            ])
    }

    /// The tables of docs/configuration.md are written from the settings by `make docs-tables`.
    @Test func documentation() throws {
        let file = URL(fileURLWithPath: #filePath).appendingPathComponent("../../../docs/configuration.md").standardizedFileURL
        let old = try String(contentsOf: file, encoding: .utf8)
        var new = old
        for group in SettingGroup.all {
            let mark = "<!-- \(group.title): written by `make docs-tables` -->\n"
            let start = try #require(new.firstRange(of: mark)).upperBound
            let end = try #require(new[start...].firstRange(of: "<!-- end -->")).lowerBound
            new.replaceSubrange(start..<end, with: table(group))
        }
        if ProcessInfo.processInfo.environment["DAG_WRITE_DOCS"] != nil { try Data(new.utf8).write(to: file) }
        let page = try String(contentsOf: file, encoding: .utf8)
        #expect(page == new, "docs/configuration.md differs from the settings: run `make docs-tables`")
    }

    private func table(_ group: SettingGroup) -> String {
        let rows = group.settings.map { setting in
            let flag = "--\(setting.key.replacing("_", with: "-")) <\(setting.placeholder)>".replacing("|", with: "\\|")
            let resume = setting.onResume == .fixed ? "fixed" : "may change"
            let meaning = setting.help + (setting.note.isEmpty ? "" : " " + setting.note)
            return "| `\(flag)` | \(setting.defaultText ?? "required") | \(resume) | \(meaning.replacing("|", with: "\\|")) |\n"
        }
        return "| flag | default | on resume | meaning |\n|---|---|---|---|\n" + rows.joined()
    }
}
