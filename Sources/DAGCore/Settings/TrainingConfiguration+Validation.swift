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
        if [.dagTB, .dagSubTB].contains(algorithm), forwardLooking == .current {
            throw ConfigurationError(
                """
                \(setting: "algorithm") \(algorithm.rawValue) needs the scores of whole trajectories at once: \
                use \(setting: "forward_looking") rollout
                """)
        }
        if algorithm == .ddpo, target == .anchored {
            throw ConfigurationError("\(setting: "target") anchored is for the dag algorithms; ddpo maximises the score")
        }
        if algorithm == .ddpo, !predictionDecoder.isEmpty {
            throw ConfigurationError("\(setting: "prediction_decoder") is for the dag algorithms; ddpo decodes no predicted data")
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
