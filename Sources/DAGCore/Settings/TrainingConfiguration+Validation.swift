extension TrainingConfiguration {
    /// Validates each setting by itself and all together.
    /// - Throws: `ConfigurationError` for values that cannot work.
    package func validate() throws {
        if model.isEmpty {
            throw ConfigurationError("\(setting: "model") is missing: a folder in diffusers layout, such as models/tiny-sd")
        }
        for setting in Self.settings { try setting.validate(self) }
        if algorithm == .dagKL, trainBatchSize < 3 {
            throw ConfigurationError(
                "\(setting: "train_batch_size") must be from 3 to \(Self.most), not \(trainBatchSize) (dag-kl's baseline leaves one out)")
        }
        if algorithm == .dagTB || !algorithm.scoresPredictions, flowEvery > 1 {
            let reason = algorithm == .dagTB ? "has the flow at a trajectory's two ends alone" : "balances no flows"
            throw ConfigurationError(
                "\(setting: "flow_every") is for dag-db, dag-kl and dag-subtb; \(algorithm.rawValue) \(reason)")
        }
        if !algorithm.trainsFlow, flowNetwork != .paper {
            throw ConfigurationError(
                "\(setting: "flow_network") is for algorithms with a state flow; \(algorithm.rawValue) trains none: leave it out")
        }
        if algorithm.scoresPredictions, balancesSeveralTransitions, forwardLooking == .current {
            let balance: Message = flowEvery > 1 ? "\(setting: "flow_every") \(flowEvery)" : "\(setting: "algorithm") \(algorithm.rawValue)"
            throw ConfigurationError(
                """
                \(balance) needs the scores of several transitions at once: use \(setting: "forward_looking") rollout
                """)
        }
        if timestepFraction < 1, balancesSeveralTransitions || algorithm.replays {
            throw ConfigurationError(
                """
                \(setting: "timestep_fraction") below 1 is for sums over transitions: dag-db and dag-kl with \
                \(setting: "flow_every") 1, ddpo and grpo; a balance of several transitions needs all of them, and \
                \(setting: "replay_updates") says how many dag-replay and dag-nabla train on
                """)
        }
        if timestepFraction < 1, algorithm.scoresPredictions, forwardLooking == .current {
            throw ConfigurationError(
                """
                \(setting: "timestep_fraction") below 1 leaves out states whose scores the transitions before them need: \
                use \(setting: "forward_looking") rollout
                """)
        }
        guard algorithm.reaches(target) else {
            let remedy: Message =
                !algorithm.usesBeta
                ? "anchored is for the dag algorithms; \(algorithm.rawValue) maximises the score"
                : "\(target.rawValue) is not what \(algorithm.rawValue) can reach: its weights are those of the pretrained model; use anchored"
            throw ConfigurationError("\(setting: "target") \(remedy)")
        }
        if algorithm == .dagNabla, betaAnnealing > 0 {
            throw ConfigurationError(
                """
                \(setting: "beta_annealing") \(betaAnnealing.shortText): dag-nabla learns its target in an epoch, with the whole of \
                \(setting: "beta"); use \(setting: "beta_annealing") 0
                """)
        }
        if !algorithm.scoresPredictions, !predictionDecoder.isEmpty {
            throw ConfigurationError(
                "\(setting: "prediction_decoder") is for algorithms that score predicted data; \(algorithm.rawValue) decodes none")
        }
        if algorithm == .dagVarGrad, trajectoriesPerUpdate < 2 || !prompts.isEmpty && !comparesImagesOfPrompts {
            throw ConfigurationError(
                """
                dag-vargrad compares the images of a prompt in an optimiser step of \(trajectoriesPerUpdate) \
                (\(setting: "train_batch_size") x \(setting: "gradient_accumulation_steps")): \(setting: "images_per_prompt") must be at \
                least 2 and divide it, not \(imagesPerPrompt)
                """)
        }
        if algorithm == .grpo, !prompts.isEmpty, imagesPerPrompt < 2 {
            throw ConfigurationError(
                """
                grpo compares the images of a prompt in an epoch: \(setting: "images_per_prompt") must be at least 2, and better 8 or more
                """)
        }
        if algorithm.usesBeta, baseKlCoefficient > 0 {
            let remedy: Message =
                "\(algorithm.rawValue) stays near the pretrained model by \(setting: "target") anchored, or by \(setting: "unet_regularization")"
            throw ConfigurationError("\(setting: "base_kl_coefficient") is for ddpo and grpo; \(remedy)")
        }
        let epoch: Message =
            """
            \(sampleBatchSize) x \(batchesPerEpoch) = \(trajectoriesPerEpoch) trajectories \
            (\(setting: "sample_batch_size") x \(setting: "batches_per_epoch"))
            """
        guard trajectoriesPerEpoch <= Self.most else {
            throw ConfigurationError("an epoch of \(epoch) is more than \(Self.most)")
        }
        guard trajectoriesPerEpoch % imagesPerPrompt == 0 else {
            throw ConfigurationError(
                "an epoch of \(epoch) does not divide into prompts of \(setting: "images_per_prompt") \(imagesPerPrompt)")
        }
        guard trajectoriesPerEpoch % trajectoriesPerUpdate == 0 else {
            throw ConfigurationError(
                """
                an epoch of \(epoch) does not divide into optimiser steps of \(trainBatchSize) x \(gradientAccumulationSteps) = \
                \(trajectoriesPerUpdate) (\(setting: "train_batch_size") x \(setting: "gradient_accumulation_steps"))
                """)
        }
    }

    /// Whether each optimiser step has all images of a prompt that are drawn together, and these are several.
    private var comparesImagesOfPrompts: Bool { imagesPerPrompt > 1 && trajectoriesPerUpdate % imagesPerPrompt == 0 }

    /// Checks that there is a reward. A program that embeds the trainer may have rewards of its own instead.
    /// - Throws: `ConfigurationError` if there is none.
    package func validateReward() throws {
        if rewardPlugin.isEmpty {
            throw ConfigurationError("\(setting: "reward_plugin") is missing: it scores the images, such as libwarmth.so or my_reward.py")
        }
    }

    /// Compares the settings with those of the run that is to be continued.
    /// - Throws: `ConfigurationError` if its checkpoint, or an epoch under way, cannot have them.
    package func validate(continuing old: TrainingConfiguration) throws {
        for setting in Self.settings where setting.onResume == .fixed && !setting.isEqual(self, old) {
            throw ConfigurationError(
                """
                \(setting: "resume"): \(setting: setting.key) was \(setting.text(of: old)) and cannot change to \
                \(setting.text(of: self)) within a run; start a new one with \(setting: "output")
                """)
        }
    }
}
