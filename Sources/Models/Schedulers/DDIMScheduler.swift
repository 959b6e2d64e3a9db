import Foundation
import Tensors

/// The quantity that the network predicts.
package enum PredictionType: String, Decodable, Sendable {
    case epsilon, sample
    case vPrediction = "v_prediction"
}

/// diffusers' DDIMScheduler (Song et al. 2021), built from any scheduler_config.json as
/// `DDIMScheduler.from_config` would be.
package struct DDIMScheduler: Sendable {
    private struct Configuration: Decodable {
        let numTrainTimesteps: Int?
        let betaStart, betaEnd: Double?
        let betaSchedule: String?
        let trainedBetas: [Double]?
        let clipSample, setAlphaToOne, thresholding, rescaleBetasZeroSnr: Bool?
        let clipSampleRange: Double?
        let stepsOffset: Int?
        let predictionType: PredictionType?
        let timestepSpacing: String?
    }

    /// One denoising step, from time t to the earlier time t', with signal levels abar(t) and abar(t').
    package struct Step: Sendable {
        /// The times t and t'. The last t' is below zero if that step goes past the first training step.
        package let time, next: Int
        /// The signal levels abar(t) and abar(t').
        package let alpha, alphaNext: Double
    }

    /// The signal level abar(t) of every training step: the cumulative product of 1 - beta.
    package let alphasCumprod: [Double]
    /// The quantity that the network predicts.
    package let predictionType: PredictionType
    /// The bound of the predicted x0; nil if the configuration does not clip it.
    package let clipRange: Double?
    private let finalAlpha: Double
    private let stepsOffset: Int
    private let spacing: String

    /// Reads a scheduler's folder.
    /// - Throws: `ModelError` that names the file and a value that is not supported.
    package init(folder: ModelFolder) throws {
        let file = folder.url.appendingPathComponent("scheduler_config.json").path
        let c = try folder.decode(Configuration.self, from: "scheduler_config.json")
        let count = c.trainedBetas?.count ?? c.numTrainTimesteps ?? 1000
        let start = c.betaStart ?? 0.0001
        let end = c.betaEnd ?? 0.02
        guard c.thresholding != true else { throw ModelError("\(file): thresholding is not supported") }
        guard count > 1 else { throw ModelError("\(file): num_train_timesteps must be above 1") }
        // Computed in float32 by torch's own operations, so that
        // the levels equal those of diffusers to the last bit.
        var betas: Tensor
        switch (c.trainedBetas, c.betaSchedule ?? "linear") {
        case (let trained?, _): betas = Tensor(trained.map(Float.init))
        case (_, "linear"): betas = Tensor.linspace(start, end, count: count)
        case (_, "scaled_linear"): betas = Tensor.linspace(start.squareRoot(), end.squareRoot(), count: count).square()
        case (_, "squaredcos_cap_v2"):
            func bar(_ t: Double) -> Double { pow(cos((t + 0.008) / 1.008 * .pi / 2), 2) }
            betas = Tensor(
                (0..<count).map { Float(min(1 - bar(Double($0 + 1) / Double(count)) / bar(Double($0) / Double(count)), 0.999)) })
        case (_, let other): throw ModelError("\(file): beta_schedule '\(other)' is not supported")
        }
        if c.rescaleBetasZeroSnr == true { betas = Self.rescaledToZeroTerminalSNR(betas) }
        alphasCumprod = try (1 - betas).cumprod(0).array(Float.self).map(Double.init)
        predictionType = c.predictionType ?? .epsilon
        clipRange = c.clipSample ?? true ? c.clipSampleRange ?? 1 : nil
        finalAlpha = c.setAlphaToOne ?? true ? 1 : alphasCumprod[0]
        stepsOffset = c.stepsOffset ?? 0
        spacing = c.timestepSpacing ?? "leading"
        guard ["leading", "trailing", "linspace"].contains(spacing) else {
            throw ModelError("\(file): timestep_spacing '\(spacing)' is not supported")
        }
    }

    /// Rescales betas so that the last signal level is zero (Lin et al. 2023, algorithm 1).
    private static func rescaledToZeroTerminalSNR(_ betas: Tensor) -> Tensor {
        let roots = (1 - betas).cumprod(0).sqrt()
        let first = roots.narrow(0, 0, 1)
        let last = roots.narrow(0, roots.count - 1, 1)
        let bar = ((roots - last) * (first / (first - last))).square()
        let alphas = bar.narrow(0, 1, bar.count - 1) / bar.narrow(0, 0, bar.count - 1)
        return 1 - Tensor.cat([bar.narrow(0, 0, 1), alphas], 0)
    }

    /// Returns the steps of a run, from noise to data.
    /// - Parameter count: the number of denoising steps, from 1 to the number of training steps.
    /// - Throws: `ModelError` if the count is outside that range.
    package func steps(_ count: Int) throws -> [Step] {
        let total = alphasCumprod.count
        guard (1...total).contains(count) else { throw ModelError("steps must be from 1 to \(total), not \(count)") }
        let times: [Int]
        switch spacing {
        case "linspace":
            times = (0..<count).map {
                count == 1 ? 0 : Int((Double($0) * Double(total - 1) / Double(count - 1)).rounded(.toNearestOrEven))
            }.reversed()
        case "trailing":
            times = (0..<count).map {
                Int((Double(total) - Double($0) * Double(total) / Double(count)).rounded(.toNearestOrEven)) - 1
            }
        default: times = (0..<count).map { $0 * (total / count) + stepsOffset }.reversed()
        }
        guard let latest = times.first, let earliest = times.last, latest < total, earliest >= 0 else {
            throw ModelError("steps \(count) with steps_offset \(stepsOffset) reaches beyond the \(total) training steps; use fewer")
        }
        return times.map { time in
            let next = time - total / count
            return Step(time: time, next: next, alpha: alphasCumprod[time], alphaNext: next >= 0 ? alphasCumprod[next] : finalAlpha)
        }
    }

    /// Computes x0 and epsilon from the network's output.
    /// - Parameters:
    ///   - output: the network's (guided) output, float32 [B, ...].
    ///   - x: the sample at that step.
    ///   - alpha: abar(t), of a shape that broadcasts to `x`.
    /// - Returns: x0 (clipped where the configuration says so) and epsilon.
    package func prediction(_ output: Tensor, x: Tensor, alpha: Tensor) -> (x0: Tensor, epsilon: Tensor) {
        let signal = alpha.sqrt()
        let noise = (1 - alpha).sqrt()
        let (x0, epsilon): (Tensor, Tensor) =
            switch predictionType {
            case .epsilon: ((x - noise * output) / signal, output)
            case .sample: (output, (x - signal * output) / noise)
            case .vPrediction: (signal * x - noise * output, signal * output + noise * x)
            }
        return (clipRange.map { x0.clamp(-$0, $0) } ?? x0, epsilon)
    }
}
