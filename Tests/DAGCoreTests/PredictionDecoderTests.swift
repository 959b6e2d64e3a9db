import Foundation
import Images
import Rewards
import Support
import Tensors
import TestSupport
import Testing

@testable import DAGCore

/// Settings on the shipped pipeline with a small decoder of random weights for predictions.
private func configuration(_ change: (inout TrainingConfiguration) -> Void = { _ in }) -> TrainingConfiguration {
    smallConfiguration {
        $0.predictionDecoder = tinyDecoder
        $0.maxRowsPerPass = 16
        change(&$0)
    }
}

@Suite struct PredictionDecoderTests {
    /// Images whose score is the trajectory's are the autoencoder's, predictions the small decoder's.
    @Test(arguments: [AlgorithmName.dagDB, .dagSubTB])
    func scoresComeFromTheirDecoders(algorithm: AlgorithmName) throws {
        func epoch(_ predictionDecoder: String) throws -> (trainer: Trainer, folder: TemporaryFolder) {
            let folder = try TemporaryFolder()
            let trainer = try trainer(configuration { ($0.algorithm, $0.predictionDecoder) = (algorithm, predictionDecoder) }, folder)
            try trainer.rollOut()
            try trainer.score()
            return (trainer, folder)
        }
        let (plain, small) = (try epoch(""), try epoch(tinyDecoder))
        let (expected, rollout) = (try #require(plain.trainer.rollout), try #require(small.trainer.rollout))
        #expect(rollout.scores.final == expected.scores.final && rollout.images == expected.images)
        #expect(rollout.scores.objectives == expected.scores.objectives)
        let (model, sampler) = (small.trainer.model, small.trainer.collector.sampler)
        let conditioning = try model.encode(rollout.prompts.map(\.text))
        for step in rollout.scores.lookahead.indices {
            let count = rollout.count
            let x = rollout.states[step]
            let steps = Array(repeating: step, count: count)
            let output = withoutGradients {
                model.denoise(x, times: sampler.kernel.times(steps), conditioning, guidance: sampler.guidance).conditional
            }
            let predicted = sampler.kernel.predictedData(output, x: x, steps: Tensor(steps.map(Int64.init)))
            let seeds = steps.indices.map(UInt64.init)
            func scores(_ images: ImageBatch) throws -> [Double] {
                brightness(try RewardBatch(images: images, prompts: rollout.prompts, sampleIDs: seeds, seeds: seeds)).map(Double.init)
            }
            #expect(difference(rollout.scores.lookahead[step].map(Double.init), try scores(model.decodePrediction(predicted))) < 1e-5)
            #expect(difference(expected.scores.lookahead[step].map(Double.init), try scores(model.decode(predicted))) < 1e-5)
            #expect(rollout.scores.lookahead[step] != expected.scores.lookahead[step])
        }
    }

    /// The own autoencoder decodes each final image once, and nothing else in an epoch.
    @Test(arguments: [ForwardLooking.rollout, .current])
    func decodesOfAnEpoch(forwardLooking: ForwardLooking) throws {
        let folder = try TemporaryFolder()
        let trainer = try trainer(configuration { $0.forwardLooking = forwardLooking }, folder)
        try trainer.runEpoch()
        let trajectories = trainer.configuration.trajectoriesPerEpoch
        #expect(trainer.model.work.decodes == trajectories)
        #expect(trainer.model.work.predictionDecodes == trajectories * trainer.configuration.steps)
    }

    /// The check before training says how far the decoders' scores are apart, and warns if that is very far.
    @Test func agreementIsSaid() throws {
        let folder = try TemporaryFolder()
        nonisolated(unsafe) var scored: [[Float]] = []
        let reward = CallbackReward(name: "brightness") { batch in
            scored.append(brightness(batch))
            return scored.last!
        }
        let trainer = try trainer(
            configuration(), folder, evaluator: RewardEvaluator([(RewardSpecification(library: "brightness"), reward)]))
        var warnings: [String] = []
        trainer.monitor.onWarning = { warnings.append($0) }
        let line = try #require(trainer.selfCheck().last)
        // The first images scored are the rollout's, the last ones the small decoder's of the same latents.
        let (own, small) = (try #require(scored.first), try #require(scored.last))
        let apart = Moments(zip(own, small).map { abs($0 - $1) }).mean
        let end = String(format: "scores by %.3g; from image to image scores deviate by %.3g", apart, Moments(own).deviation)
        #expect(line.hasPrefix("decoder of predictions against the model's own, 4 images: pixels differ by "))
        #expect(line.hasSuffix(end), "\(line) \(end)")
        #expect(apart > Moments(own).deviation / 2 && warnings.count == 1 && warnings[0].hasPrefix(tinyDecoder), "\(warnings)")
    }

    /// One error names what is wrong with the setting.
    @Test func refusals() throws {
        let error = #expect(throws: ConfigurationError.self) { try configuration { $0.algorithm = .ddpo }.validate() }
        #expect(error?.description.hasPrefix("prediction_decoder is for algorithms that score predicted data") == true)

        func problem(_ decoder: String, model: String = tinySD) -> String {
            do {
                _ = try DiffusionPipeline(folder: model, predictionDecoder: decoder, dtype: .float32, device: .cpu)
                return ""
            } catch { return "\(error)" }
        }
        #expect(problem(tinyDecoder, model: tinyDDPM).hasPrefix("prediction_decoder is for models with an autoencoder"))
        for (golden, sizes) in [("vae-tiny", "4 channels to images 8 times"), ("vae-tiny-odd", "3 channels to images 3 times")] {
            let text = problem(goldens.appendingPathComponent(golden).path)
            #expect(text.hasPrefix("prediction_decoder decodes latents of \(sizes) as high, but those of \(tinySD) have 4"), "\(text)")
        }
        #expect(problem(tinySD + "/vae").contains("model class \"AutoencoderKL\" is not supported (AutoencoderTiny is)"))
        #expect(problem("/nowhere").hasPrefix("/nowhere: no such folder"))

        // Damage of one file of the folder at a time.
        let weights = "diffusion_pytorch_model.safetensors"
        for (file, damage, expected) in [
            (weights, { $0.prefix($0.count / 2) }, "damaged or incomplete"), (weights, { _ in nil }, "no weights"),
            ("config.json", { $0.prefix(40) }, "not valid JSON"), ("config.json", { _ in nil }, "missing or unreadable"),
            ("config.json", { Data(String(decoding: $0, as: UTF8.self).replacing("12", with: "16").utf8) }, "do not fit the configuration"),
        ] as [(String, (Data) -> Data?, String)] {
            try withFolder { folder in
                let copy = folder.appendingPathComponent("decoder")
                try FileManager.default.copyItem(atPath: tinyDecoder, toPath: copy.path)
                let place = copy.appendingPathComponent(file)
                let damaged = damage(try Data(contentsOf: place))
                try FileManager.default.removeItem(at: place)
                try damaged?.write(to: place)
                let text = problem(copy.path)
                #expect(text.hasPrefix(copy.path) && text.contains(expected) && !text.contains("\n"), "\(text)")
            }
        }
    }
}
