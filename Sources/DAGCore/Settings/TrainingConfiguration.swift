import Foundation
import NN
import Tensors

/// The time at which predicted data is scored.
package enum ForwardLooking: String, SettingChoice {
    /// During the rollout, in large batches, scored while the sampler goes on.
    case rollout
    /// With the weights of each optimiser step, as in the paper's published code.
    case current
}

/// The network of the state flow.
package enum FlowKind: String, SettingChoice {
    /// The small one of the paper's appendix: `StateFlow`.
    case paper
    /// A copy of the encoder of the model's U-Net: `EncoderFlow`.
    case encoder = "unet-encoder"

    /// Makes the network for a model.
    /// - Throws: errors of the networks.
    func make(_ store: ParameterStore, beside model: any DiffusionModel) throws -> any FlowNetwork {
        switch self {
        case .paper: try StateFlow(store, beside: model)
        case .encoder: try EncoderFlow(store, beside: model)
        }
    }
}

/// The course of the learning rates over a run, after the warm-up: those of diffusers' `get_scheduler`.
package enum LearningRateScheduler: String, SettingChoice {
    case constant
    /// Falls to zero in a straight line.
    case linear
    /// Falls to zero along half a cosine.
    case cosine

    /// Returns the factor of the learning rates in an optimiser step.
    /// - Parameters:
    ///   - step: optimiser steps before it.
    ///   - steps: of the whole run.
    ///   - warmup: the first steps, over which the factor grows from 0 to 1.
    func factor(step: Int, of steps: Int, warmup: Int) -> Double {
        guard step >= warmup else { return Double(step) / Double(warmup) }
        let progress = Double(step - warmup) / Double(max(1, steps - warmup))
        switch self {
        case .constant: return 1
        case .linear: return max(0, 1 - progress)
        case .cosine: return max(0, 0.5 * (1 + cos(.pi * progress)))
        }
    }
}

/// The density that the trained model samples from, s being an image's score.
package enum Target: String, SettingChoice {
    /// exp(beta s), as in the paper.
    case reward
    /// p_base(x0) exp(beta s), with p_base the pretrained model, whose P_F replaces P_B in the balance.
    case anchored
}

/// The settings of a run with the paper's defaults; `settings` has all else about each.
package struct TrainingConfiguration: Equatable, Sendable {
    /// Folder of the pretrained model in diffusers layout.
    package var model = ""
    /// Rewards, `LIB[,key=value...]`.
    package var rewardPlugin: [String] = []
    /// Prompt file or the name of a built-in set; empty: none.
    package var prompts = ""

    /// The algorithm that trains.
    package var algorithm = AlgorithmName.dagDB
    /// The density that is sampled from in the end.
    package var target = Target.reward
    /// Factor of the score in the target, at the end of annealing.
    package var beta = 100.0
    /// Fraction of the epochs over which beta grows linearly from zero.
    package var betaAnnealing = 0.5
    /// Learning rate of the LoRA.
    package var learningRate = 3e-4
    /// Learning rate of the state flow.
    package var flowLearningRate = 3e-4
    /// The course of both learning rates.
    package var lrScheduler = LearningRateScheduler.constant
    /// Optimiser steps over which the learning rates grow from zero.
    package var lrWarmupSteps = 0
    /// Weight k of DAG-KL's policy term.
    package var klCoefficient = 1.0
    /// Weight of KL(P_theta || P_base) of a step in DDPO and GRPO.
    package var baseKlCoefficient = 0.0
    /// Weight lambda of the squared distance to the rollout's guided output.
    package var unetRegularization = 1.0
    /// Bound c of the importance ratio in DAG-KL, DDPO and GRPO.
    package var clipRange = 1e-4
    /// The time at which predicted data is scored.
    package var forwardLooking = ForwardLooking.rollout
    /// The network of the state flow.
    package var flowNetwork = FlowKind.paper
    /// Transitions K between the states that have a flow; 1: every state has one.
    package var flowEvery = 1
    /// Folder of an AutoencoderTiny that decodes predicted data; empty: the model's own autoencoder does.
    package var predictionDecoder = ""
    /// Factor by which the weight of a sub-trajectory falls with each step, in sub-trajectory balance.
    package var subtbLambda = 0.9
    /// Optimiser steps of the policy an epoch in dag-replay and dag-nabla.
    package var replayUpdates = 20
    /// Optimiser steps of dag-nabla's flow an epoch, before those of the policy.
    package var flowUpdates = 20
    /// Images that dag-replay and dag-nabla keep; 0: all of the run.
    package var replayBufferSize = 0
    /// Reduction of log-densities over dimensions.
    package var logProb = LogProbabilityReduction.mean
    /// Whether DDPO normalises scores by each prompt's own statistics.
    package var perPromptStatistics = false
    /// Rank of the LoRA.
    package var loraRank = 4
    /// The LoRA's output is multiplied by alpha / rank; 0: alpha is the rank.
    package var loraAlpha = 0.0
    /// Ends of the keys of layers that get an adapter, with commas between them.
    package var loraTargets = LoRAAdapters.attention.joined(separator: ",")
    /// A LoRA file to start from; empty: fresh adapters.
    package var initLora = ""
    /// Decay of the average of the LoRA's weights; 0: none is kept.
    package var emaDecay = 0.0
    /// AdamW's weight decay, of both networks.
    package var weightDecay = 1e-4
    /// Bound of the gradients' norm, of LoRA and flow separately.
    package var maxGradNorm = 1.0

    /// Rounds of sampling and training.
    package var epochs = 100
    /// Trajectories sampled at once, more where `maxRowsPerPass` allows it: a memory setting.
    package var sampleBatchSize = 16
    /// Sampled batches an epoch.
    package var batchesPerEpoch = 4
    /// Trajectories of each prompt that an epoch draws; they are neighbours in the order of training.
    package var imagesPerPrompt = 1
    /// Trajectories b of a group: their transitions at one timestep are computed together, and are the
    /// samples of DAG-KL's baseline.
    package var trainBatchSize = 8
    /// Groups k of trajectories an optimiser step.
    package var gradientAccumulationSteps = 4
    /// Denoising steps of a trajectory.
    package var steps = 50
    /// Share of a trajectory's transitions that is trained on.
    package var timestepFraction = 1.0
    /// Scale of the sampling noise; 1 is the DDPM chain.
    package var eta = 1.0
    /// Scale w of classifier-free guidance, in sampling and training.
    package var guidanceScale = 5.0
    /// Height and width of the images in pixels; 0: the model's.
    package var height = 0, width = 0

    /// Type that the frozen networks compute in.
    package var precision = Precision.auto
    /// Where everything is computed.
    package var device = DeviceChoice.auto
    /// U-Net rows computed at once: a memory setting; 0 chooses by the size of the samples.
    package var maxRowsPerPass = 0
    /// Whether training computes the networks' blocks again in the backward pass, to save memory.
    package var gradientCheckpointing = false
    /// CPU threads; 0 leaves it to libtorch.
    package var threads = 0
    /// Seed of all randomness of the run.
    package var seed: UInt64 = 0
    /// Fixed prompts and seeds scored before and after training.
    package var evaluationSamples = 0
    /// Prompts of evaluations, as for `prompts`; empty: the same.
    package var evaluationPrompts = ""
    /// Denoising steps of evaluations and sample sheets; 0: those of training.
    package var evaluationSteps = 0
    /// Epochs between sample sheets, of which the first is before training; 0: none.
    package var sampleEvery = 5
    /// Epochs between checkpoints.
    package var checkpointEvery = 1

    /// The defaults.
    package init() {}

    /// Trajectories of one epoch.
    package var trajectoriesPerEpoch: Int { sampleBatchSize * batchesPerEpoch }
    /// Trajectories of one optimiser step.
    package var trajectoriesPerUpdate: Int { trainBatchSize * gradientAccumulationSteps }
    /// Optimiser steps of one epoch.
    package var updatesPerEpoch: Int {
        algorithm.replays ? flowUpdatesPerEpoch + replayUpdates : trajectoriesPerEpoch / trajectoriesPerUpdate
    }
    /// Those of them that are the flow's alone.
    var flowUpdatesPerEpoch: Int { algorithm == .dagNabla ? flowUpdates : 0 }
    /// Whether what was learned of the target's gradient is measured, which takes transitions of eta 1.
    var measuresGradientScale: Bool { algorithm == .dagNabla && eta == 1 }

    /// Whether the loss balances several transitions at once, and so needs all of a trajectory's before a
    /// step.
    var balancesSeveralTransitions: Bool { [.dagTB, .dagSubTB, .dagVarGrad].contains(algorithm) || flowEvery > 1 }

    /// Returns the factor of the learning rates in an optimiser step of the run, of so many an epoch.
    func learningRateFactor(step: Int, updatesPerEpoch: Int) -> Double {
        lrScheduler.factor(step: step, of: epochs * updatesPerEpoch, warmup: lrWarmupSteps)
    }

    /// The reduction in use: weights of whole trajectories are made of true densities.
    package var logProbReduction: LogProbabilityReduction { algorithm.replays ? .sum : logProb }

    /// Evaluations of the network for a transition that is trained on: the policy, and where the loss has its
    /// divergence from it the pretrained model.
    var evaluationsPerTransition: Int { baseKlCoefficient > 0 ? 2 : 1 }

    /// Whether transitions are weighed by importance ratios other than 1: the first step of an epoch has the
    /// weights of the rollout.
    var reweighsTransitions: Bool { algorithm.clipsRatio && updatesPerEpoch > 1 }

    /// Returns the type that the frozen networks compute in.
    ///
    /// bfloat16 moves log rho by 4e-4 to 1e-1 (models/tiny-sd), and a clip range is as small as 1e-4; a sum
    /// over all dimensions and steps moves by nats. Where ratios matter, `auto` is float32.
    func dtype(on device: Device) -> DType {
        precision == .auto && (reweighsTransitions || algorithm.replays) ? .float32 : precision.resolve(on: device)
    }

    /// Computes beta_e = beta min(1, epoch / (annealing epochs)): linear from zero (paper, section 5).
    func beta(epoch: Int) -> Double { betaAnnealing == 0 ? beta : beta * min(1, Double(epoch) / (betaAnnealing * Double(epochs))) }
}
