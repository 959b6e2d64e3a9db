import Foundation
import Models
import Tensors
import Yams

/// A flag, key or value of a run that cannot be used, in one line that says what to do.
public struct ConfigurationError: Error, CustomStringConvertible {
    /// One line: the culprit and the remedy.
    public let description: String
    /// - Parameter description: one line that names the culprit.
    public init(_ description: String) { self.description = description }
}

/// When the rewards of predicted data are taken.
public enum ForwardLooking: String, Codable, CaseIterable, Sendable {
    /// During the rollout, in large batches, scored while the sampler goes on.
    case rollout
    /// With the weights of each optimiser step, as in the paper's published code.
    case current
}

/// What the trained model samples in proportion to.
public enum Target: String, Codable, CaseIterable, Sendable {
    /// R(x0)^beta, as in the paper.
    case reward
    /// p(x0) R(x0)^beta, with p the pretrained model: P_B in the balance is replaced by the pretrained model's P_F.
    case anchored
}

/// All settings of a run; defaults are the paper's. The keys of a YAML file are the flags of dag-train with underscores.
public struct TrainingConfiguration: Codable, Equatable, Sendable {
    /// Folder of the pretrained model in diffusers layout.
    public var model = ""
    /// Reward plugins, `LIB[,key=value...]`.
    public var rewardPlugin: [String] = []
    /// Prompt file or the name of a built-in set.
    public var prompts = ""
    /// The training objective.
    public var algorithm = Algorithm.dagDB
    /// Rounds of sampling and training.
    public var epochs = 100
    /// Trajectories sampled at once: a memory setting; more are where `maxRowsPerPass` allows it.
    public var sampleBatchSize = 16
    /// Sampled batches an epoch.
    public var batchesPerEpoch = 4
    /// Trajectories b whose transitions at one timestep form a group: the least that is computed at once, and DAG-KL's baseline.
    public var trainBatchSize = 8
    /// Groups k of trajectories an optimiser step.
    public var gradientAccumulationSteps = 4
    /// Denoising steps of a trajectory.
    public var steps = 50
    /// Scale of the sampling noise; 1 is the DDPM chain.
    public var eta = 1.0
    /// Scale w of classifier-free guidance, in sampling and training.
    public var guidanceScale = 5.0
    /// Learning rate of the LoRA.
    public var learningRate = 3e-4
    /// Learning rate of the state flow.
    public var flowLearningRate = 3e-4
    /// The exponent of the reward at the end of annealing.
    public var beta = 100.0
    /// Fraction of the epochs over which beta grows linearly from zero.
    public var betaAnnealing = 0.5
    /// Weight k of DAG-KL's policy term.
    public var klCoefficient = 1.0
    /// Weight lambda of the distance to the rollout's guided output.
    public var unetRegularization = 1.0
    /// Bound c of the importance ratio in DAG-KL and DDPO.
    public var clipRange = 1e-4
    /// When predicted data is scored.
    public var forwardLooking = ForwardLooking.rollout
    /// What is sampled in proportion to.
    public var target = Target.reward
    /// How fast the weight of longer sub-trajectories falls, in sub-trajectory balance.
    public var subtbLambda = 0.9
    /// How log-densities are reduced over dimensions.
    public var logProb = LogProbabilityReduction.mean
    /// DDPO: normalise rewards by each prompt's own statistics.
    public var perPromptStatistics = false
    /// Rank of the LoRA; its alpha is the same.
    public var loraRank = 4
    /// AdamW's weight decay, of both networks.
    public var weightDecay = 1e-4
    /// Bound of the gradients' norm, of LoRA and flow separately.
    public var maxGradNorm = 1.0
    /// Type that the frozen networks compute in.
    public var precision = Precision.auto
    /// Where everything is computed.
    public var device = DeviceChoice.auto
    /// U-Net rows computed at once: a memory setting; 0 chooses by the size of the samples.
    public var maxRowsPerPass = 0
    /// CPU threads; 0 leaves it to libtorch.
    public var threads = 0
    /// Seed of all randomness of the run.
    public var seed: UInt64 = 0
    /// Fixed prompts and seeds scored before and after training.
    public var evaluationSamples = 0
    /// Prompts of those, as for `prompts`, such as held-out ones; empty: `prompts`.
    public var evaluationPrompts = ""
    /// Epochs between sample sheets; 0: only the one before training.
    public var sampleEvery = 5
    /// Epochs between checkpoints.
    public var checkpointEvery = 1

    private enum CodingKeys: String, CodingKey {
        case model, prompts, algorithm, target, epochs, steps, eta, beta, precision, device, threads, seed
        case subtbLambda = "subtb_lambda"
        case rewardPlugin = "reward_plugin"
        case sampleBatchSize = "sample_batch_size"
        case batchesPerEpoch = "batches_per_epoch"
        case trainBatchSize = "train_batch_size"
        case gradientAccumulationSteps = "gradient_accumulation_steps"
        case guidanceScale = "guidance_scale"
        case learningRate = "learning_rate"
        case flowLearningRate = "flow_learning_rate"
        case betaAnnealing = "beta_annealing"
        case klCoefficient = "kl_coefficient"
        case unetRegularization = "unet_regularization"
        case clipRange = "clip_range"
        case forwardLooking = "forward_looking"
        case logProb = "log_prob"
        case perPromptStatistics = "per_prompt_statistics"
        case loraRank = "lora_rank"
        case weightDecay = "weight_decay"
        case maxGradNorm = "max_grad_norm"
        case maxRowsPerPass = "max_rows_per_pass"
        case evaluationSamples = "evaluation_samples"
        case evaluationPrompts = "evaluation_prompts"
        case sampleEvery = "sample_every"
        case checkpointEvery = "checkpoint_every"
    }

    /// The defaults.
    public init() {}

    /// Reads a YAML file over `base` and `overrides` over both; unknown keys are errors.
    /// - Parameter overrides: values by key, as they would stand in the file.
    public static func resolve(base: TrainingConfiguration = .init(), file: String? = nil, overrides: [String: Node] = [:]) throws -> Self {
        guard let file else { return try resolve(base: base, text: nil, overrides: overrides) }
        guard let text = try? String(contentsOfFile: file, encoding: .utf8) else {
            throw ConfigurationError("--config \(file): cannot be read as UTF-8 text")
        }
        return try resolve(base: base, text: text, source: "--config \(file)", overrides: overrides)
    }

    /// Reads YAML, of which JSON is a part, over `base` and `overrides` over both; unknown keys are errors.
    /// - Parameter source: where the text is from, for messages.
    public static func resolve(
        base: TrainingConfiguration = .init(), text: String?, source: String = "config", overrides: [String: Node] = [:]
    ) throws -> Self {
        let prefix = text == nil ? "" : "\(source): "
        do {
            var merged = try Yams.compose(yaml: YAMLEncoder().encode(base))?.mapping ?? [:]
            let known = merged.keys.compactMap(\.string)
            if let text {
                guard let mapping = try Yams.compose(yaml: text)?.mapping else {
                    throw ConfigurationError("\(source): is not a mapping of settings, key by key")
                }
                for (key, value) in mapping {
                    guard let name = key.string, known.contains(name) else {
                        throw ConfigurationError(
                            "\(source): unknown key '\(key.string ?? "?")'; known are \(known.sorted().joined(separator: ", "))")
                    }
                    // Settings nest no deeper, and aliases upon aliases can stand for more than there is memory.
                    guard value.scalar != nil || value.sequence?.allSatisfy({ $0.scalar != nil }) == true else {
                        throw ConfigurationError("\(source): '\(name)' takes a value or a list of values, and nothing nested")
                    }
                    merged[key] = name == "reward_plugin" && value.scalar != nil ? Node([value]) : value
                }
            }
            for (key, value) in overrides { merged[Node(key)] = value }
            return try YAMLDecoder().decode(Self.self, from: Yams.serialize(node: .mapping(merged)))
        } catch let error as ConfigurationError {
            throw error
        } catch let DecodingError.dataCorrupted(context), let DecodingError.typeMismatch(_, context), let DecodingError.valueNotFound(
            _, context)
        {
            let key = context.codingPath.map(\.stringValue).joined(separator: ".")
            throw ConfigurationError("\(prefix)bad value for '\(key)'; docs/configuration.md says what it takes")
        } catch {
            throw ConfigurationError(
                "\(prefix)\("\(error)".split(separator: "\n").first ?? "not valid YAML")")
        }
    }

    /// The settings as YAML.
    public func yaml() throws -> String { try YAMLEncoder().encode(self) }

    /// The settings as a JSON object with sorted keys.
    public func json() throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return String(decoding: try encoder.encode(self), as: UTF8.self)
    }

    /// Refuses to continue a run with settings that its checkpoint, or an epoch under way, cannot have.
    public func check(continuing old: TrainingConfiguration) throws {
        let fixed = [
            "model", "prompts", "algorithm", "target", "sample_batch_size", "batches_per_epoch", "train_batch_size",
            "gradient_accumulation_steps",
            "steps",
            "eta", "guidance_scale", "forward_looking", "log_prob", "lora_rank", "precision", "seed",
        ]
        let (before, now) = (try Yams.compose(yaml: old.yaml())?.mapping ?? [:], try Yams.compose(yaml: yaml())?.mapping ?? [:])
        if let key = fixed.first(where: { before[$0]?.scalar?.string != now[$0]?.scalar?.string }) {
            throw ConfigurationError(
                "--resume: \(key) was \(before[key]?.scalar?.string ?? "?") and cannot change to \(now[key]?.scalar?.string ?? "?") within a run; start a new one with --output"
            )
        }
    }

    /// Trajectories of one epoch.
    public var trajectoriesPerEpoch: Int { sampleBatchSize * batchesPerEpoch }
    /// Trajectories of one optimiser step.
    public var trajectoriesPerUpdate: Int { trainBatchSize * gradientAccumulationSteps }

    /// Optimiser steps of one epoch.
    public var updatesPerEpoch: Int { trajectoriesPerEpoch / trajectoriesPerUpdate }

    /// beta_e = beta min(1, epoch / (annealing epochs)): linear from zero (paper, section 5).
    func beta(epoch: Int) -> Double { betaAnnealing == 0 ? beta : beta * min(1, Double(epoch) / (betaAnnealing * Double(epochs))) }

    /// Refuses values that cannot work.
    public func check() throws {
        func refuse(_ reason: String) -> ConfigurationError { ConfigurationError(reason) }
        if model.isEmpty { throw refuse("--model is missing: a folder in diffusers layout, such as models/tiny-sd") }
        let most = 1_000_000
        for (flag, value, range) in [
            ("--epochs", epochs, 1...most), ("--sample-batch-size", sampleBatchSize, 1...most),
            ("--batches-per-epoch", batchesPerEpoch, 1...most),
            ("--train-batch-size", trainBatchSize, (algorithm == .dagKL ? 3 : 1)...most),
            ("--gradient-accumulation-steps", gradientAccumulationSteps, 1...most), ("--lora-rank", loraRank, 1...most),
            ("--steps", steps, 1...most), ("--max-rows-per-pass", maxRowsPerPass, 0...most), ("--threads", threads, 0...1024),
            ("--evaluation-samples", evaluationSamples, 0...most), ("--sample-every", sampleEvery, 0...most),
            ("--checkpoint-every", checkpointEvery, 1...most),
        ] where !range.contains(value) {
            let reason = range.lowerBound == 3 ? " (dag-kl's baseline leaves one out)" : ""
            throw refuse("\(flag) must be from \(range.lowerBound) to \(range.upperBound), not \(value)\(reason)")
        }
        guard trajectoriesPerEpoch <= most else {
            throw refuse(
                "an epoch of \(sampleBatchSize) x \(batchesPerEpoch) trajectories (--sample-batch-size x --batches-per-epoch) is more than \(most)"
            )
        }
        for (flag, value) in [
            ("--learning-rate", learningRate), ("--flow-learning-rate", flowLearningRate), ("--eta", eta), ("--max-grad-norm", maxGradNorm),
            ("--clip-range", clipRange),
        ] where !(value > 0 && value.isFinite) {
            throw refuse("\(flag) must be above zero, not \(value)\(flag == "--eta" ? ": without noise there is no density to train" : "")")
        }
        for (flag, value) in [
            ("--beta", beta), ("--beta-annealing", betaAnnealing), ("--kl-coefficient", klCoefficient),
            ("--unet-regularization", unetRegularization), ("--weight-decay", weightDecay), ("--guidance-scale", guidanceScale),
        ] where !(value >= 0 && value.isFinite) {
            throw refuse("\(flag) must not be negative, and is \(value)")
        }
        guard subtbLambda > 0, subtbLambda <= 1 else { throw refuse("--subtb-lambda must be above zero and at most 1, not \(subtbLambda)") }
        if [.dagTB, .dagSubTB].contains(algorithm), forwardLooking == .current {
            throw refuse("--algorithm \(algorithm.rawValue) needs the rewards of whole trajectories at once: use --forward-looking rollout")
        }
        if algorithm == .ddpo, target == .anchored {
            throw refuse("--target anchored is for the dag algorithms; ddpo maximises the reward")
        }
        guard trajectoriesPerEpoch % trajectoriesPerUpdate == 0 else {
            throw refuse(
                "an epoch of \(sampleBatchSize) x \(batchesPerEpoch) = \(trajectoriesPerEpoch) trajectories (--sample-batch-size x --batches-per-epoch) does not divide into optimiser steps of \(trainBatchSize) x \(gradientAccumulationSteps) = \(trajectoriesPerUpdate) (--train-batch-size x --gradient-accumulation-steps)"
            )
        }
    }
}
