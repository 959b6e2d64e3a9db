extension TrainingConfiguration {
    /// The largest amount of anything.
    static let most = 1_000_000

    /// All settings, in the order of `--help`.
    package static let settings = SettingGroup.all.flatMap(\.settings)
}

/// The settings themselves: flags, keys, limits, the rule on resume, `--help` and the tables of
/// docs/configuration.md come from here.
extension SettingGroup {
    /// All groups, in the order of `--help`.
    package static let all = [subject, method, amounts, machine]

    /// The settings, beside the subject, that drawing images depends on: those of dag-eval.
    package static let sampling = SettingGroup(
        "Sampling",
        keys: [
            "steps", "eta", "guidance_scale", "height", "width", "precision", "device", "max_rows_per_pass", "threads", "seed",
        ])

    /// Model, rewards and prompts.
    package static let subject = SettingGroup(
        "What to train",
        Setting(
            "model", \.model, isRequired: true, placeholder: "dir",
            help: "Folder of the pretrained model in diffusers layout.", note: "Stable Diffusion 1.x or 2.x, or a DDPM."),
        Setting(
            "reward_plugin", \.rewardPlugin, onResume: .mayChange, isRequired: true,
            placeholder: "lib[,key=value...]",
            help: """
                A reward: a plugin, a Python file or c:LIBRARY; may be repeated. Every reward takes keys such as weight, objective, \
                on_failure and timeout; its own are listed by dag-reward info.
                """,
            note: """
                In YAML: a list. See [below](#rewards). A continued run may change keys such as `timeout`, not those that scores \
                depend on.
                """),
        Setting(
            "prompts", \.prompts, isRequired: true, placeholder: "file|name",
            help: "Text, CSV or JSON file, or a built-in set: \(PromptSet.builtInNames.joined(separator: ", ")).",
            note: """
                Text has a prompt a line, CSV or TSV a column `prompt` or `Prompts`, JSON a list of strings or of objects with `prompt`, \
                JSON lines one of these a line. Their other columns and keys are told to rewards as \
                [metadata](reward-plugins.md#metadata). \
                The paper's division of published files: `drawbench:FILE.csv`, `hpdv2:FOLDER`, and the held-out prompts of each, \
                `drawbench-heldout:FILE.csv`, `hpdv2-heldout:FOLDER`. A model without text needs none. \
                A continued run needs the same prompts and metadata.
                """))

    /// The way of training.
    package static let method = SettingGroup(
        "Method",
        Setting("algorithm", \.algorithm, help: "Algorithm that trains the model.", note: "See [algorithms](algorithms/README.md)."),
        Setting(
            "target", \.target,
            help: """
                reward: sample in proportion to exp(beta s), s being an image's score; anchored: to the pretrained model's density \
                times exp(beta s).
                """,
            note: "[Anchored](algorithms/README.md#anchored-target) takes one more U-Net evaluation a step of sampling."),
        Setting(
            "beta", \.beta, in: .zeroOrMore, onResume: .mayChange,
            help: "How strongly the score counts: the target is exp(beta s).",
            note: "DAG only. A larger beta gives higher scores and fewer modes."),
        Setting(
            "beta_annealing", \.betaAnnealing, in: .zeroOrMore, onResume: .mayChange,
            help: "Fraction of the epochs over which beta grows linearly from 0; 0: all of it at once."),
        Setting("learning_rate", \.learningRate, in: .aboveZero, onResume: .mayChange, help: "Learning rate of the LoRA."),
        Setting(
            "flow_learning_rate", \.flowLearningRate, in: .aboveZero, onResume: .mayChange, help: "Learning rate of the state flow (DAG)."),
        Setting(
            "lr_scheduler", \.lrScheduler, onResume: .mayChange,
            help: "Course of both learning rates over the run, after the warm-up.",
            note: "As in diffusers. More epochs on resume stretch it. In dag-nabla each network's own steps count, here and in the warm-up."
        ),
        Setting(
            "lr_warmup_steps", \.lrWarmupSteps, in: .from(0), onResume: .mayChange,
            help: "Optimiser steps over which both learning rates grow from 0."),
        Setting("kl_coefficient", \.klCoefficient, in: .zeroOrMore, onResume: .mayChange, help: "Weight of the policy term (dag-kl)."),
        Setting(
            "base_kl_coefficient", \.baseKlCoefficient, in: .zeroOrMore, onResume: .mayChange,
            help: "Weight of a step's KL divergence from the pretrained model in the loss (ddpo, grpo); 0: off.",
            note: "It takes one more U-Net evaluation a trained transition: see [grpo](algorithms/grpo.md)."),
        Setting(
            "unet_regularization", \.unetRegularization, in: .zeroOrMore, onResume: .mayChange,
            help: "Weight of the squared distance to the rollout's U-Net output (DAG); 0: off."),
        Setting(
            "clip_range", \.clipRange, in: .aboveZero, onResume: .mayChange, help: "Bound of the importance ratio (dag-kl, ddpo, grpo)."),
        Setting(
            "forward_looking", \.forwardLooking,
            help: "When predicted data is scored (DAG): while sampling, or with the weights of each optimiser step.",
            note: """
                `current` is the published code's way. Both decode and score each state once; with `current` training waits for the \
                scores.
                """),
        Setting(
            "flow_network", \.flowNetwork,
            help: "Network of the state flow (DAG): the paper's small one, or a copy of the encoder of the model's U-Net.",
            note: "See [what the copy gains](algorithms/dag-nabla.md#implementation-details), and what it costs."),
        Setting(
            "flow_every", \.flowEvery, in: .from(1), placeholder: "K",
            help: "Give every K-th state a flow, and balance the transitions between two of them together (dag-db, dag-kl, dag-subtb).",
            note: "Only their predictions are decoded and scored: see [what it does](algorithms/dag-tb.md#the-flow-at-some-states)."),
        Setting(
            "prediction_decoder", \.predictionDecoder, default: "the model's own", placeholder: "dir",
            help: """
                Folder of a small decoder (diffusers' AutoencoderTiny, such as TAESD) for predicted data (DAG); final images are always \
                decoded by the model's own.
                """,
            note: "See [what it saves](algorithms/README.md#a-small-decoder-for-predictions)."),
        Setting(
            "subtb_lambda", \.subtbLambda, in: .aboveZero(to: 1), onResume: .mayChange,
            help: "Weight of a sub-trajectory of n stretches between states with a flow: x to the power of n (dag-subtb)."),
        Setting(
            "replay_updates", \.replayUpdates, in: .from(1), onResume: .mayChange,
            help: "Optimiser steps of the policy an epoch, each of b x k noised images (dag-replay, dag-nabla)."),
        Setting(
            "flow_updates", \.flowUpdates, in: .from(1),
            help: "Optimiser steps of the flow an epoch, before those of the policy and as large (dag-nabla)."),
        Setting(
            "replay_buffer_size", \.replayBufferSize, in: .from(0), onResume: .mayChange, default: "all of the run",
            help: "Images, the newest, that are learned from (dag-replay, dag-nabla)."),
        Setting(
            "log_prob", \.logProb,
            help: "Mean or sum of log-probabilities over dimensions.",
            note: "The mean is the published code's choice, the sum the true density."),
        Setting(
            "per_prompt_statistics", \.perPromptStatistics, onResume: .mayChange,
            help: "Normalise scores by each prompt's own mean and deviation (ddpo)."),
        Setting("lora_rank", \.loraRank, in: .from(1), help: "Rank of the LoRA."),
        Setting(
            "lora_alpha", \.loraAlpha, in: .zeroOrMore, default: "the rank",
            help: "The LoRA's output is multiplied by this number divided by the rank."),
        Setting(
            "lora_targets", \.loraTargets, placeholder: "layer,...",
            help: "Layers that the LoRA adapts: names, or ends of names, of linear layers and convolutions.",
            note: """
                peft's `target_modules`; the default is attention, as in the paper. `...,conv1,conv2` adapts the convolutions of the \
                residual blocks too.
                """),
        Setting(
            "init_lora", \.initLora, default: "none", placeholder: "file",
            help: "A LoRA to start from, of the same rank and of layers among those of --lora-targets.",
            note: "The pretrained model of the target, of `base_kl` and of regularisation stays the one without it."),
        Setting(
            "ema_decay", \.emaDecay, in: .belowOne,
            help: "Keep an exponential moving average of the LoRA with this decay, such as 0.99; 0: none.",
            note: """
                It is written beside the LoRA as `pytorch_lora_weights_ema.safetensors`, and what evaluations and sample sheets draw \
                from. As diffusers' EMAModel: lower at the first steps.
                """),
        Setting("weight_decay", \.weightDecay, in: .zeroOrMore, onResume: .mayChange, help: "Weight decay of AdamW."),
        Setting(
            "max_grad_norm", \.maxGradNorm, in: .aboveZero, onResume: .mayChange,
            help: "Bound of the gradients' norm, for LoRA and state flow separately."))

    /// Numbers of epochs, trajectories and steps.
    package static let amounts = SettingGroup(
        "Amounts",
        Setting(
            "epochs", \.epochs, in: .from(1), onResume: .mayChange,
            help: "Rounds of sampling and training.", note: "More epochs on resume also stretch the annealing of beta."),
        Setting(
            "sample_batch_size", \.sampleBatchSize, in: .from(1), placeholder: "B",
            help: "Trajectories sampled at once, at least.", note: "More where `--max-rows-per-pass` allows it."),
        Setting(
            "batches_per_epoch", \.batchesPerEpoch, in: .from(1), placeholder: "M",
            help: "Sampled batches an epoch.", note: "An epoch has B × M trajectories, at most a million."),
        Setting(
            "images_per_prompt", \.imagesPerPrompt, in: .from(1), placeholder: "n",
            help: "Trajectories of each prompt that an epoch draws.",
            note: "They are in one group where b is a multiple of n. n must divide B × M."),
        Setting(
            "train_batch_size", \.trainBatchSize, in: .from(1), placeholder: "b",
            help: "Trajectories of a group; dag-kl takes its baseline within it.", note: "dag-kl needs at least 3."),
        Setting(
            "gradient_accumulation_steps", \.gradientAccumulationSteps, in: .from(1), placeholder: "k",
            help: "Groups an optimiser step, each with all its timesteps.", note: "b × k trajectories must divide B × M."),
        Setting("steps", \.steps, in: .from(1), help: "Denoising steps."),
        Setting(
            "timestep_fraction", \.timestepFraction, in: .aboveZero(to: 1), onResume: .mayChange,
            help: "Share of each trajectory's transitions that is trained on, others for each group (dag-db, dag-kl, ddpo, grpo).",
            note: "An update takes that share of the time; see [the choice](algorithms/README.md#a-share-of-the-transitions)."),
        Setting(
            "eta", \.eta, in: .aboveZero(because: "without noise there is no density to train"),
            help: "Scale of the sampling noise.", note: "Must be above 0: without noise there is no density to train."),
        Setting(
            "guidance_scale", \.guidanceScale, in: .zeroOrMore,
            help: "Scale of classifier-free guidance, in sampling and in training.", note: "1: none, at half the work."),
        Setting(
            "height", \.height, in: .from(0, to: 8192), default: "the model's", help: "Height of the images in pixels.",
            note: "A multiple of 64 for Stable Diffusion."),
        Setting("width", \.width, in: .from(0, to: 8192), default: "the model's", help: "Width of the images in pixels."))

    /// Hardware, seed and output.
    package static let machine = SettingGroup(
        "Machine and output",
        Setting(
            "precision", \.precision,
            help: "Type that the frozen networks compute in.",
            note: """
                `auto` is bf16 on CUDA and on CPUs that multiply it in hardware, but fp32 for dag-replay and dag-nabla, whose weights are sums \
                over trajectories, and for dag-kl, ddpo and grpo with several optimiser steps an epoch: bf16 rounds their importance \
                ratios by more than the clip range. LoRA weights, kernels and losses are float32.
                """),
        Setting(
            "device", \.device, onResume: .mayChange, help: "Where everything is computed.", note: "CUDA needs a CUDA build of libtorch."),
        Setting(
            "max_rows_per_pass", \.maxRowsPerPass, in: .from(0), onResume: .mayChange, default: "by sample size",
            help: "U-Net rows computed at once; changes memory and speed, not results.",
            note: """
                At least `--train-batch-size` samples (two rows each with guidance) go together in training, \
                `--sample-batch-size` in sampling.
                """),
        Setting(
            "gradient_checkpointing", \.gradientCheckpointing, onResume: .mayChange,
            help: "Compute each block again in the backward pass; changes memory and speed, not results."),
        Setting(
            "threads", \.threads, in: .from(0, to: 1024), onResume: .mayChange, default: "libtorch's choice",
            help: "CPU threads, at most 1024."),
        Setting("seed", \.seed, help: "Seed of all randomness of the run."),
        Setting(
            "evaluation_samples", \.evaluationSamples, in: .from(0), onResume: .mayChange,
            help: "Score this many fixed prompts and seeds before and after training.", note: "Both means are printed."),
        Setting(
            "evaluation_prompts", \.evaluationPrompts, onResume: .mayChange, default: "those of --prompts", placeholder: "file|name",
            help: "Prompts of the evaluation, such as held-out ones.", note: "For example `hpdv2-heldout:FOLDER`."),
        Setting(
            "evaluation_steps", \.evaluationSteps, in: .from(0), onResume: .mayChange, default: "those of --steps",
            help: "Denoising steps of evaluations and sample sheets."),
        Setting(
            "sample_every", \.sampleEvery, in: .from(0), onResume: .mayChange,
            help: "Epochs between sample sheets, of which the first is before training; 0: none."),
        Setting(
            "checkpoint_every", \.checkpointEvery, in: .from(1), onResume: .mayChange,
            help: "Epochs between checkpoints.",
            note: "The end of a run and Ctrl-C always save; `--resume` repeats an optimiser step that was not complete."))
}
