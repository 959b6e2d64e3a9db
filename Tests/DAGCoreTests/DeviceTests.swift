import Foundation
import HostileDevice
import Models
import Rewards
import Tensors
import TestSupport
import Testing

@testable import DAGCore

/// Training on a device that is not the CPU: a tensor made in the wrong place fails here, not on a user's GPU.
@Suite(.enabled(if: !otherDevices.isEmpty, "needs a GPU, or a libtorch without CUDA")) struct DeviceTests {
    private static let configurations: [TrainingConfiguration] = [
        smallConfiguration {
            ($0.target, $0.gradientCheckpointing, $0.loraTargets, $0.emaDecay) = (.anchored, true, "to_q,conv1,conv2", 0.5)
        },
        smallConfiguration { ($0.algorithm, $0.forwardLooking, $0.predictionDecoder) = (.dagKL, .current, tinyDecoder) },
        smallConfiguration { ($0.algorithm, $0.logProb) = (.dagTB, .sum) },
        smallConfiguration { ($0.algorithm, $0.guidanceScale, $0.evaluationSteps) = (.dagSubTB, 1, 1) },
        smallConfiguration { ($0.algorithm, $0.perPromptStatistics) = (.ddpo, true) },
        smallConfiguration { ($0.algorithm, $0.imagesPerPrompt, $0.baseKlCoefficient) = (.grpo, 2, 0.1) },
        smallConfiguration { ($0.model, $0.prompts) = (tinyDDPM, "") },
        smallConfiguration { ($0.algorithm, $0.imagesPerPrompt) = (.dagVarGrad, 2) },
        smallConfiguration { ($0.algorithm, $0.target, $0.replayUpdates) = (.dagReplay, .anchored, 2) },
        smallConfiguration {
            ($0.algorithm, $0.target, $0.flowNetwork, $0.flowUpdates, $0.replayUpdates) = (.dagNabla, .anchored, .encoder, 1, 1)
        },
    ]

    private func trainer(_ configuration: TrainingConfiguration, _ dtype: DType, on device: Device, _ folder: URL) throws -> Trainer {
        let output = OutputFolder(folder.path)
        try output.prepare()
        let decoder = configuration.predictionDecoder
        let model = try DiffusionPipeline(
            folder: configuration.model, predictionDecoder: decoder.isEmpty ? nil : decoder, dtype: dtype, device: device)
        return try Trainer(
            configuration, model: model, evaluator: brightness(),
            prompts: configuration.prompts.isEmpty ? .none : PromptSet.load(configuration.prompts), output: output)
    }

    /// A run with all that comes before and after its epoch, and stopped and resumed within it.
    private func train(
        _ configuration: TrainingConfiguration, _ dtype: DType, on device: Device
    ) throws -> (images: [UInt8], weights: [Float]) {
        try withFolder { folder in
            var configuration = configuration
            (configuration.steps, configuration.epochs, configuration.evaluationSamples) = (2, 1, 2)
            (configuration.sampleBatchSize, configuration.trainBatchSize) = (6, 3)
            let first = try trainer(configuration, dtype, on: device, folder)
            try first.begin()
            _ = try first.evaluate()
            try first.rollOut()
            try first.score()
            let images = try #require(first.samples?.images)
            try first.update()
            try first.save()
            let second = try trainer(configuration, dtype, on: device, folder)
            try second.resume(from: OutputFolder(folder.path))
            try second.run()
            #expect(second.model.device == device && second.stepsDone == 2)
            return (images.withUnsafeBytes { Array($0) }, try second.weights())
        }
    }

    @Test(.enabled(if: hasHostileDevice, "looks into the device that stands in for a GPU")) func tensorsOfTheHostAreRefused() throws {
        let device = Tensor([Float(1), 2], device: .cuda)
        #expect(device.device == .cuda)
        #expect(try (device + device.select(0, 1)).array(Float.self) == [3, 4])
        // Some are refused by libtorch itself, the others by the device.
        let wrongs: [(Tensor) -> Tensor] = [{ device + $0 }, { device.matmul($0) }, { Tensor.cat([device, $0], 0) }]
        for wrong in wrongs {
            _ = wrong(Tensor([Float(1), 2]))
            let problem = try #require(TensorError.take()).description
            #expect(problem.contains("tensors to be on the same device") || problem.contains("a tensor of the host is among"), "\(problem)")
        }
    }

    /// In float32 training is that of the CPU, but for rounding: AdamW's first steps have the size of the learning
    /// rate, 1e-3 here, whatever the gradient. Where it is zero but for rounding, they may go either way: so the mean counts.
    @Test(arguments: configurations) func trainingInFloat32(configuration: TrainingConfiguration) throws {
        let results = try ([.cpu] + otherDevices).map { try train(configuration, .float32, on: $0) }
        #expect(zip(results[0].images, results[1].images).allSatisfy { abs(Int($0) - Int($1)) <= 1 })
        let differences = zip(results[1].weights, results[0].weights).map { Double(abs($0 - $1)) }
        let mean = differences.reduce(0, +) / Double(differences.count)
        #expect(mean < 1e-5, "\(mean)")
    }

    /// Host and device wait for each other at each read and each copy: so often in a step of sampling and in a pass of an
    /// update, whatever their size.
    @Test(.enabled(if: hasHostileDevice, "looks into the device that stands in for a GPU")) func waits() throws {
        func waits(steps: Int) throws -> (sampling: [Int64], update: [Int64]) {
            try withFolder { folder in
                let configuration = smallConfiguration { ($0.steps, $0.maxRowsPerPass, $0.gradientAccumulationSteps) = (steps, 8, 2) }
                let trainer = try trainer(configuration, .float32, on: .cuda, folder)
                func count(_ body: () throws -> Void) rethrows -> [Int64] {
                    let before = [hostile_device_reads(), hostile_device_writes()]
                    try body()
                    return zip([hostile_device_reads(), hostile_device_writes()], before).map(-)
                }
                let sampling = try count { try trainer.rollOut() }
                try trainer.score()
                return (sampling, try count { try trainer.update() })
            }
        }
        let (few, more) = (try waits(steps: 2), try waits(steps: 3))
        let perStep = zip(more.sampling, few.sampling).map(-)
        let perPass = zip(more.update, few.update).map { ($0 - $1) / 2 }
        // Reads: whether the output and the decoded prediction are finite, and its pixels.
        // Copies: noise and times.
        #expect(perStep == [3, 2])
        // Reads: weights, losses, ratios, squared residuals and distances, for the metrics.
        // Copies: places, step numbers, weights and scores; for network and flow times and places of the text.
        #expect(perPass == [5, 8])
    }

    @Test(arguments: configurations.prefix(2)) func trainingInBFloat16(configuration: TrainingConfiguration) throws {
        var configuration = configuration
        configuration.clipRange = 10  // rounding moves the ratios
        #expect(try train(configuration, .bfloat16, on: .cuda).weights.allSatisfy(\.isFinite))
    }
}
