import ArgumentParser
import Commands
import DAGCore
import Foundation
import Rewards
import Support

@main
struct TrainCommand: Command {
    static let configuration = CommandConfiguration(
        commandName: "dag-train",
        abstract: "Post-trains a text-to-image diffusion model so that it samples in proportion to a reward.",
        discussion: """
            The model is a folder in diffusers layout (Stable Diffusion 1.x or 2.x, or a DDPM); the reward is anything that scores \
            pictures: a plugin (a shared library), a Python file, a function of a C library. The result is a LoRA that diffusers and ComfyUI load.

            EXAMPLES
              The shipped small model, minutes on a laptop:
                dag-train --model models/tiny-sd --reward-plugin libwarmth.so --prompts tiny-sd \\
                          --config examples/configs/tiny-sd-warmth.yaml --output runs/warmth
              Stable Diffusion v1.5 with the paper's settings:
                dag-train --model stable-diffusion-v1-5 --reward-plugin libjpeg_compressibility.so --prompts imagenet --output runs/jpeg
              Go on with a run that was stopped:
                dag-train --resume runs/jpeg
              A reward in Python, which may fail now and then:
                dag-train --model models/tiny-sd --prompts tiny-sd --reward-plugin my_reward.py,python=venv/bin/python,on_failure=drop \\
                          --output runs/mine

            A plugin without a slash is looked up in DAG_REWARD_PATH, beside this program and in the installed library folder (dag-reward list). \
            Rewards run in processes of their own. docs/reward-plugins.md shows how to write one.
            Ctrl-C saves and ends with exit code 130 (an optimiser step under way is made anew on --resume); a second Ctrl-C ends at once.
            """,
        version: DAGVersion.text)

    @OptionGroup(title: "What to train") var subject: SubjectOptions
    @OptionGroup(title: "Method") var method: MethodOptions
    @OptionGroup(title: "Amounts") var amounts: AmountOptions
    @OptionGroup(title: "Machine and output") var machine: MachineOptions

    static func line(for error: any Error) -> String { ErrorReport.line(for: error) }
    static func isUsageError(_ error: any Error) -> Bool { ErrorReport.isUsageError(error) }

    mutating func execute() throws {
        let session = try TrainingSession(subject: subject, method: method, amounts: amounts, machine: machine)
        if try session.run() == .stopped { throw ExitCode(130) }
    }
}

struct SubjectOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Folder of the pretrained model in diffusers layout.", valueName: "dir"))
    var model: String?
    @Option(
        name: .customLong("reward-plugin"), parsing: .singleValue,
        help: ArgumentHelp(
            "A reward: a plugin, a Python file or c:LIBRARY; may be repeated. Keys such as weight, objective, on_failure and timeout are the host's, the others the reward's: see dag-reward info.",
            valueName: "lib[,key=value...]"))
    var rewardPlugin: [String] = []
    @Option(
        help: ArgumentHelp(
            "Text, CSV or JSON file, or a built-in set: tiny-sd, tiny-sd-open, simple-animals, imagenet.", valueName: "file|name"))
    var prompts: String?
    @Option(help: ArgumentHelp("Settings as YAML: these flags with underscores. Flags win over the file.", valueName: "file.yaml"))
    var config: String?
    @Option(help: ArgumentHelp("Continue the run in this output folder.", valueName: "dir"))
    var resume: String?
    @Option(help: ArgumentHelp("Where to write; a new or empty folder.", valueName: "dir"))
    var output: String?
}

struct MethodOptions: ParsableArguments {
    @Option(help: "dag-db, dag-kl, dag-tb, dag-subtb or ddpo. (default: dag-db)") var algorithm: String?
    @Option(help: "reward: sample in proportion to R^beta; anchored: to the pretrained model's density times R^beta. (default: reward)")
    var target: String?
    @Option(help: "Exponent of the reward. (default: 100)") var beta: Double?
    @Option(help: "Fraction of the epochs over which beta grows from 0. (default: 0.5)") var betaAnnealing: Double?
    @Option(help: "Learning rate of the LoRA. (default: 3e-4)") var learningRate: Double?
    @Option(help: "Learning rate of the state flow. (default: 3e-4)") var flowLearningRate: Double?
    @Option(help: "Weight of DAG-KL's policy term. (default: 1)") var klCoefficient: Double?
    @Option(help: "Weight of the distance to the rollout's U-Net output. (default: 1)") var unetRegularization: Double?
    @Option(help: "Bound of the importance ratio in DAG-KL and DDPO. (default: 1e-4)") var clipRange: Double?
    @Option(help: "rollout or current: when predicted data is scored. (default: rollout)") var forwardLooking: String?
    @Option(help: "dag-subtb: how fast the weight of longer sub-trajectories falls. (default: 0.9)") var subtbLambda: Double?
    @Option(help: "mean or sum of log-probabilities over dimensions. (default: mean)") var logProb: String?
    @Option(help: "DDPO: normalise rewards by each prompt's own statistics, true or false. (default: false)") var perPromptStatistics: Bool?
    @Option(help: "Rank of the LoRA. (default: 4)") var loraRank: Int?
    @Option(help: "AdamW's weight decay. (default: 1e-4)") var weightDecay: Double?
    @Option(help: "Bound of the gradients' norm, for LoRA and flow separately. (default: 1)") var maxGradNorm: Double?
}

struct AmountOptions: ParsableArguments {
    @Option(help: "(default: 100)") var epochs: Int?
    @Option(help: "Trajectories sampled at once, at least. (default: 16)") var sampleBatchSize: Int?
    @Option(help: "Sampled batches an epoch. (default: 4)") var batchesPerEpoch: Int?
    @Option(help: "Trajectories of a training batch, DAG-KL's baseline group. (default: 8)") var trainBatchSize: Int?
    @Option(help: "Training batches an optimiser step, each over all timesteps. (default: 4)") var gradientAccumulationSteps: Int?
    @Option(help: "Denoising steps. (default: 50)") var steps: Int?
    @Option(help: "Scale of the sampling noise. (default: 1)") var eta: Double?
    @Option(help: "Classifier-free guidance, in sampling and training. (default: 5)") var guidanceScale: Double?
}

struct MachineOptions: ParsableArguments {
    @Option(help: "auto, fp32 or bf16, for the frozen networks. (default: auto)") var precision: String?
    @Option(help: "auto, cpu or cuda. (default: auto)") var device: String?
    @Option(help: "U-Net rows computed at once; changes memory and speed, not results. (default: by sample size)")
    var maxRowsPerPass: Int?
    @Option(help: "CPU threads. (default: libtorch's choice)") var threads: Int?
    @Option(help: "(default: 0)") var seed: UInt64?
    @Option(help: "Score this many fixed prompts and seeds before and after training. (default: 0)") var evaluationSamples: Int?
    @Option(help: ArgumentHelp("Prompts for that, such as held-out ones. (default: those of --prompts)", valueName: "file|name"))
    var evaluationPrompts: String?
    @Option(help: "Epochs between sample sheets; 0: only the one before training. (default: 5)") var sampleEvery: Int?
    @Option(help: "Epochs between checkpoints. (default: 1)") var checkpointEvery: Int?
}
