import Foundation
import Tensors
import TestSupport
import Testing

@testable import DAGCore

@Suite struct EstimateTests {
    private static func configuration(_ change: (inout TrainingConfiguration) -> Void) -> TrainingConfiguration {
        smallConfiguration {
            ($0.steps, $0.epochs, $0.maxRowsPerPass, $0.evaluationSamples) = (3, 2, 16, 5)
            change(&$0)
        }
    }

    private static let configurations = [
        configuration { ($0.sampleEvery, $0.evaluationSteps) = (2, 2) },
        configuration { ($0.algorithm, $0.forwardLooking, $0.predictionDecoder) = (.dagKL, .current, tinyDecoder) },
        configuration { ($0.algorithm, $0.target, $0.guidanceScale) = (.dagTB, .anchored, 1) },
        configuration { ($0.algorithm, $0.sampleBatchSize, $0.batchesPerEpoch, $0.imagesPerPrompt) = (.ddpo, 4, 3, 2) },
        configuration { ($0.algorithm, $0.imagesPerPrompt, $0.baseKlCoefficient, $0.timestepFraction) = (.grpo, 2, 0.1, 0.5) },
        configuration { ($0.model, $0.prompts, $0.gradientCheckpointing) = (tinyDDPM, "", true) },
        configuration { $0.flowEvery = 2 },
        configuration { ($0.algorithm, $0.timestepFraction, $0.target) = (.dagDB, 0.5, .anchored) },
        configuration { ($0.algorithm, $0.imagesPerPrompt) = (.dagVarGrad, 2) },
        configuration { ($0.algorithm, $0.target, $0.replayUpdates) = (.dagReplay, .anchored, 3) },
        configuration { ($0.algorithm, $0.target, $0.flowUpdates, $0.replayUpdates) = (.dagNabla, .anchored, 2, 1) },
    ]

    /// A plan has the rows, decodes, scores and batches that a run counts, part by part.
    @Test(arguments: configurations)
    func planAgreesWithRun(configuration: TrainingConfiguration) throws {
        let folder = try TemporaryFolder()
        nonisolated(unsafe) var (scores, batches) = (0, 0)
        let trainer = try trainer(
            configuration, folder,
            evaluator: brightness {
                scores += $0
                batches += 1
            })
        let (plan, model) = (trainer.plan, trainer.model)
        func done() -> Work {
            // A pass with gradients counts the same rows as one without.
            Work(
                sampledRows: model.work.networkRows, decodes: model.work.decodes, predictions: model.work.predictionDecodes,
                scores: scores, batches: batches)
        }
        func expect(_ parts: Work, since before: Work = Work(), sourceLocation: SourceLocation = #_sourceLocation) {
            let ownDecoder = configuration.predictionDecoder.isEmpty
            let planned = Work(
                sampledRows: before.sampledRows + parts.sampledRows + parts.trainedRows,
                decodes: before.decodes + parts.decodes + (ownDecoder ? parts.predictions : 0),
                predictions: before.predictions + (ownDecoder ? 0 : parts.predictions), scores: before.scores + parts.scores,
                batches: before.batches + parts.batches)
            #expect(done() == planned, sourceLocation: sourceLocation)
        }
        try trainer.begin()
        var beginning = done()
        (beginning.scores, beginning.batches) = (0, 0)
        (scores, batches) = (0, 0)
        expect(plan.selfCheck + (configuration.sampleEvery > 0 ? 1 : 0) * plan.sheet)
        _ = try trainer.evaluate()
        expect(plan.evaluation, since: beginning)
        let before = done()
        try trainer.runEpoch()
        expect(plan.epoch(0), since: before)
        try trainer.run()
        _ = try trainer.evaluate()
        expect(plan.run)
    }

    /// An estimate leaves weights as they are, and knows seconds and memory of every kind of pass.
    @Test(arguments: configurations)
    func estimateTrainsNothing(configuration: TrainingConfiguration) throws {
        let folder = try TemporaryFolder()
        let trainer = try trainer(configuration, folder)
        let weights = try trainer.weights()
        let estimate = try trainer.estimate()
        #expect(try trainer.weights() == weights)
        #expect(estimate.rows.allSatisfy { $0.count == 0 || $0.seconds > 0 })
        #expect(estimate.epochSeconds > 0 && estimate.runSeconds > estimate.epochSeconds)
        #expect(try #require(estimate.peak.bytes) > 50 << 20)
        #expect(estimate.memory > 1 << 30)
        try trainer.runEpoch()
    }

    /// Operations follow from shapes: two for each multiplication.
    @Test func operations() throws {
        func count(_ body: () -> Tensor) -> Int { Int(OperationCount.of(body).operations) / 2 }
        let x = Tensor.zeros([2, 6, 8, 8])
        let kernel = Tensor.zeros([4, 6, 3, 3])
        let outputs = 2 * 4 * 4 * 4
        #expect(count { x.conv2d(kernel, nil, stride: 2, padding: 1) } == outputs * 6 * 9)
        let rows = Tensor.zeros([2, 5, 6])
        let (a, b) = (Tensor.zeros([3, 6]), Tensor.zeros([7, 3]))
        let matrix = Tensor.zeros([7, 6])
        #expect(count { rows.linear(matrix) } == 10 * 42)
        let adapted = 42 + 18 + 21
        #expect(count { rows.linear(matrix, nil, adapter: (a, b), scale: 1) } == 10 * adapted)
        let products = 2 * 2 * 25 * 6  // queries with keys, and weights with values, of two samples
        #expect(count { Tensor.attention(rows, rows, rows, heads: 2) } == products)
        #expect(count { rows.matmul(Tensor.zeros([6, 4])) } == 10 * 24)
        try TensorError.check()
    }
}
