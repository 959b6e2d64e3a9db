import Tensors

/// When the scores of predicted data are taken.
public enum ForwardLooking: String, Codable, CaseIterable, Sendable {
    /// During the rollout, in large batches, scored while the sampler goes on.
    case rollout
    /// With the weights of each optimiser step, as in the paper's published code.
    case current
}

/// The density that the trained model samples from, s being an image's score.
public enum Target: String, Codable, CaseIterable, Sendable {
    /// exp(beta s), as in the paper.
    case reward
    /// p(x0) exp(beta s), with p the pretrained model: P_B in the balance is replaced by the pretrained
    /// model's P_F.
    case anchored
}

/// The settings of a run. Defaults are the paper's and stand here; `settings` has all else about each.
public struct TrainingConfiguration: Equatable, Sendable {
    /// Folder of the pretrained model in diffusers layout.
    public var model = ""
    /// Rewards, `LIB[,key=value...]`.
    public var rewardPlugin: [String] = []
    /// Prompt file or the name of a built-in set; empty: none.
    public var prompts = ""

    /// The way of training.
    public var algorithm = AlgorithmName.dagDB
    /// The density that is sampled from in the end.
    public var target = Target.reward
    /// Factor of the score in the target, at the end of annealing.
    public var beta = 100.0
    /// Fraction of the epochs over which beta grows linearly from zero.
    public var betaAnnealing = 0.5
    /// Learning rate of the LoRA.
    public var learningRate = 3e-4
    /// Learning rate of the state flow.
    public var flowLearningRate = 3e-4
    /// Weight k of DAG-KL's policy term.
    public var klCoefficient = 1.0
    /// Weight lambda of the squared distance to the rollout's guided output.
    public var unetRegularization = 1.0
    /// Bound c of the importance ratio in DAG-KL and DDPO.
    public var clipRange = 1e-4
    /// When predicted data is scored.
    public var forwardLooking = ForwardLooking.rollout
    /// Factor by which the weight of a sub-trajectory falls with each step, in sub-trajectory balance.
    public var subtbLambda = 0.9
    /// How log-densities are reduced over dimensions.
    public var logProb = LogProbabilityReduction.mean
    /// Whether DDPO normalises scores by each prompt's own statistics.
    public var perPromptStatistics = false
    /// Rank of the LoRA; its alpha is the same.
    public var loraRank = 4
    /// AdamW's weight decay, of both networks.
    public var weightDecay = 1e-4
    /// Bound of the gradients' norm, of LoRA and flow separately.
    public var maxGradNorm = 1.0

    /// Rounds of sampling and training.
    public var epochs = 100
    /// Trajectories sampled at once: a memory setting; more are where `maxRowsPerPass` allows it.
    public var sampleBatchSize = 16
    /// Sampled batches an epoch.
    public var batchesPerEpoch = 4
    /// Trajectories b whose transitions at one timestep form a group: the least that is computed at once, and
    /// DAG-KL's baseline.
    public var trainBatchSize = 8
    /// Groups k of trajectories an optimiser step.
    public var gradientAccumulationSteps = 4
    /// Denoising steps of a trajectory.
    public var steps = 50
    /// Scale of the sampling noise; 1 is the DDPM chain.
    public var eta = 1.0
    /// Scale w of classifier-free guidance, in sampling and training.
    public var guidanceScale = 5.0

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

    /// The defaults.
    public init() {}

    /// Trajectories of one epoch.
    public var trajectoriesPerEpoch: Int { sampleBatchSize * batchesPerEpoch }
    /// Trajectories of one optimiser step.
    public var trajectoriesPerUpdate: Int { trainBatchSize * gradientAccumulationSteps }
    /// Optimiser steps of one epoch.
    public var updatesPerEpoch: Int { trajectoriesPerEpoch / trajectoriesPerUpdate }

    /// beta_e = beta min(1, epoch / (annealing epochs)): linear from zero (paper, section 5).
    func beta(epoch: Int) -> Double { betaAnnealing == 0 ? beta : beta * min(1, Double(epoch) / (betaAnnealing * Double(epochs))) }
}
