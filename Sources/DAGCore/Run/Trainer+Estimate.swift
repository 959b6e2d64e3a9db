import Foundation
import Images
import Rewards
import Support
import Tensors

/// The cost of a run: amounts by its settings, seconds and memory by one pass of each kind on this machine.
package struct CostEstimate {
    /// A kind of work in an epoch.
    struct Row {
        let name: String
        let count: Int
        /// Floating-point operations; nil for rewards.
        let operations: Double?
        /// NaN if memory ran out.
        let seconds: Double
    }

    /// Describes the run: see `Trainer.summary`.
    let summary: String
    let rows: [Row]
    /// Seconds of an epoch, and of the whole run.
    let epochSeconds, runSeconds: Double
    /// The pass that takes the most memory, and the bytes in use then; nil if they were not enough.
    let peak: (pass: String, bytes: Int?)
    /// Bytes of the device.
    let memory: Int

    /// The estimate as lines of text.
    package var lines: [Message] {
        func line(_ name: String, _ count: String, _ operations: String, _ seconds: String) -> Message {
            "\(name.padded(24) + count.padded(12) + operations.padded(12) + seconds)"
        }
        let all = rows.reduce(0) { $0 + ($1.operations ?? 0) }
        return ["\(summary)", line("in an epoch", "number", "TFLOP", "seconds")]
            + rows.map { line($0.name, "\($0.count)", $0.operations.map { Self.digits($0 * 1e-12) } ?? "-", Self.digits($0.seconds)) }
            + [line("all", "", Self.digits(all * 1e-12), Self.digits(epochSeconds))]
            + ["the run, with self-checks, sample sheets and evaluations: \(Self.digits(runSeconds / 3600)) hours", memoryLine]
    }

    private var memoryLine: Message {
        func gigabytes(_ bytes: Int) -> String { String(format: "%.2f GB", Double(bytes) * 1e-9) }
        let most = "most memory: \(peak.pass), \(peak.bytes.map(gigabytes) ?? "more") of \(gigabytes(memory)), rewards not counted"
        guard let bytes = peak.bytes, bytes <= memory else { return "\(most): it does not fit; lower \(ErrorReport.trainerMemory)" }
        return "\(most)"
    }

    private static func digits(_ value: Double) -> String {
        value.isNaN ? "-" : String(format: value < 100 ? "%.3g" : "%.0f", value)
    }
}

extension Trainer {
    /// One pass, measured; zeros for a pass that the run does not have.
    private struct Pass {
        var name = ""
        /// Rows of the network, or images.
        var count = 1
        var seconds = 0.0
        var operations = 0.0
        /// Bytes in use; nil if they were not enough.
        var peak: Int? = 0

        func seconds(of number: Int) -> Double { seconds * Double(number) / Double(count) }
        func operations(of number: Int) -> Double { operations * Double(number) / Double(count) }
    }

    /// Measures one pass of each kind, as large as the run's. Trains nothing and writes nothing.
    /// - Throws: an error of a reward, `NotFiniteError`, `TensorError`.
    package func estimate() throws -> CostEstimate {
        let (plan, kernel) = (plan, learner.kernel)
        let count = min(plan.trajectoriesAtOnce, configuration.trajectoriesPerEpoch)
        let (prompts, noise) = collector.prompts.fixedSamples(count, seeds)
        let x = Tensor.randn([count] + model.sampleShape, generator: Generator(seed: seeds(.selfCheck))).to(model.device)
        let times = kernel.times(Array(repeating: 0, count: count))
        let text = try model.encode(prompts.map(\.text))
        let step = try measure("a step of sampling", count * plan.rowsPerSample) {
            _ = try withoutGradients {
                try model.denoise(x, times: times, text, guidance: configuration.guidanceScale).guided.isFinite()
            }
        }
        let decode = try measure("decoding", count) { _ = try model.decode(x) }
        let prediction =
            plan.predictedStates > 0 ? try measure("decoding predictions", count) { _ = try model.decodePrediction(x) } : Pass()
        let size = model.imageSize
        let grey = [UInt8](repeating: 128, count: count * size.height * size.width * 3)
        let batch = try RewardBatch(
            images: ImageBatch(pixels: grey, count: count, height: size.height, width: size.width), prompts: prompts,
            sampleIDs: noise.indices.map(UInt64.init), seeds: noise)
        let score = try measure("scoring", count) { _ = try collector.evaluator.score(batch) }
        let group = (0..<configuration.trainBatchSize).map { $0 % count }
        let epoch = try rehearsal(x.rows(group), group.map { prompts[$0] })
        model.releaseTextEncoder()
        var operations = 0.0
        var update = try measure("a pass of training", learner.rowsOfPass) { operations = try learner.rehearse(epoch) }
        update.operations = operations
        var flow = Pass()
        if configuration.flowUpdatesPerEpoch > 0 {
            flow = try measure("a pass of the flow", learner.replayBlocks[0].count) { operations = try learner.rehearseFlow(epoch) }
            flow.operations = operations
        }

        func seconds(_ work: Work) -> Double {
            let sampling =
                step.seconds(of: work.sampledRows) + decode.seconds(of: work.decodes) + prediction.seconds(of: work.predictions)
            let (scoring, training) = (
                score.seconds(of: work.scores), update.seconds(of: work.trainedRows) + flow.seconds(of: work.flowRows)
            )
            // Images are scored while the sampler goes on.
            return (configuration.forwardLooking == .rollout ? max(sampling, scoring) : sampling + scoring) + training
        }
        func row(_ name: String, _ count: Int, _ pass: Pass) -> CostEstimate.Row {
            CostEstimate.Row(name: name, count: count, operations: pass.operations(of: count), seconds: pass.seconds(of: count))
        }
        let work = plan.epoch(configuration.epochs == 1 ? 0 : 1)
        let passes = [step, decode, prediction, update, flow]
        let most = passes.first { $0.peak == nil } ?? passes.max { $0.peak! < $1.peak! }!
        return CostEstimate(
            summary: summary,
            rows: [row("U-Net rows, sampling", work.sampledRows, step), row("U-Net rows, training", work.trainedRows, update)]
                + (work.flowRows > 0 ? [row("flow rows, training", work.flowRows, flow)] : []) + [
                    row("images decoded", work.decodes, decode), row("predictions decoded", work.predictions, prediction),
                    CostEstimate.Row(name: "reward calls", count: work.batches, operations: nil, seconds: score.seconds(of: work.scores)),
                ], epochSeconds: seconds(work), runSeconds: seconds(plan.run), peak: (most.name, most.peak.map { $0 + trajectoryBytes }),
            memory: try Memory(of: model.device).total)
    }

    /// Bytes of an epoch's states and network outputs, which stay on the device.
    private var trajectoryBytes: Int {
        configuration.trajectoriesPerEpoch * (2 * learner.kernel.transitions + 1) * model.sampleShape.reduce(4, *)
    }

    /// Measures a pass; twice, since its first time may be mostly preparation (2 s on a GPU), unless that would take long.
    private func measure(_ name: String, _ count: Int, _ body: () throws -> Void) throws -> Pass {
        var pass = Pass(name: name, count: count)
        do {
            Memory.resetPeak(of: model.device)
            for _ in 1...2 {
                let start = ContinuousClock.now
                pass.operations = try OperationCount.of(body).operations
                pass.seconds = start.duration(to: .now).seconds
                if pass.seconds > 20 { break }
            }
            pass.peak = try Memory(of: model.device).peak
        } catch let error as TensorError where error.isOutOfMemory {
            (pass.seconds, pass.peak) = (.nan, nil)
        }
        return pass
    }

    /// Makes trajectories that stay where they are, to rehearse an update on.
    private func rehearsal(_ x: Tensor, _ prompts: [Prompt]) throws -> ScoredEpoch {
        let transitions = learner.kernel.transitions
        let scores = [Float](repeating: 0, count: prompts.count)
        let zeros = Array(repeating: Tensor.zeros([prompts.count], device: model.device), count: transitions)
        var rollout = Rollout(prompts: prompts, held: Array(prompts.indices))
        rollout.states = Array(repeating: x, count: transitions + 1)
        rollout.guided = Array(repeating: x, count: transitions)
        (rollout.logForward, rollout.logReference) = (zeros, zeros)
        rollout.scores = RolloutScores(final: scores, lookahead: Array(repeating: scores, count: transitions))
        return ScoredEpoch(index: 0, rollout: rollout, conditioning: try model.encode(prompts.map(\.text)))
    }
}
