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
    /// The samples of a pipeline. diffusers' pipelines change a scheduler's configuration accordingly.
    package enum Samples: Sendable {
        case pixels
        /// Latents, which are not clipped unless the file says so: they are not bounded as pixels are.
        case latents
        /// Latents of StableDiffusionPipeline, which sets `steps_offset` to 1 and `clip_sample` to false.
        case stableDiffusion
    }

    /// Classes of diffusers whose noise schedule is DDPM's, so that DDIM's steps fit their models.
    package static let classes = [
        "DDIM", "DDIMParallel", "DDPM", "DDPMParallel", "PNDM", "LMSDiscrete", "EulerDiscrete", "EulerAncestralDiscrete", "HeunDiscrete",
        "KDPM2Discrete", "KDPM2AncestralDiscrete", "DPMSolverSinglestep", "DPMSolverMultistep", "DPMSolverSDE", "UniPCMultistep",
        "DEISMultistep", "SASolver",
    ].map { $0 + "Scheduler" }
    /// Those among them whose own defaults of `beta_start` and `beta_end` are not DDIM's.
    private static let classesOfOtherBetas = [
        "HeunDiscrete", "KDPM2Discrete", "KDPM2AncestralDiscrete", "DPMSolverSDE",
    ].map { $0 + "Scheduler" }

    private struct Configuration: Decodable {
        let numTrainTimesteps: Int
        let betaStart, betaEnd: Double
        let betaSchedule: String
        let trainedBetas: [Double]?
        // null counts as false, as in Python.
        let clipSample, setAlphaToOne, rescaleBetasZeroSnr: Bool?
        let clipSampleRange: Double
        let stepsOffset: Int
        let predictionType: PredictionType
        let timestepSpacing: String
    }

    private static let defaults = ReferenceDefaults(
        [
            "num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear", "clip_sample": true,
            "set_alpha_to_one": true, "rescale_betas_zero_snr": false, "clip_sample_range": 1, "steps_offset": 0,
            "prediction_type": "epsilon", "timestep_spacing": "leading",
        ],
        // Other keys belong to the steps of other classes: DDIM does not take them.
        fixed: ["thresholding": false, "use_flow_sigmas": false, "timestep_type": "discrete"])

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
    package init(folder: ModelFolder, samples: Samples = .pixels) throws {
        let file = folder.url.appendingPathComponent("scheduler_config.json").path
        let found = try folder.object("scheduler_config.json")
        try Self.validate(file, found)
        let c = try folder.decode(Configuration.self, from: "scheduler_config.json", Self.defaults)
        let count = c.trainedBetas?.count ?? c.numTrainTimesteps
        guard 2...100_000 ~= count, found["num_train_timesteps"] == nil || c.numTrainTimesteps == count else {
            throw ModelError("\(file): num_train_timesteps must be from 2 to 100000, and the number of trained_betas if there are any")
        }
        guard 0..<count ~= c.stepsOffset else {
            throw ModelError("\(file): steps_offset must be from 0 to \(count - 1), not \(c.stepsOffset)")
        }
        // Computed in float32 by torch's own operations, so that
        // the levels equal those of diffusers to the last bit.
        var betas: Tensor
        switch (c.trainedBetas, c.betaSchedule) {
        case (let trained?, _): betas = Tensor(trained.map(Float.init))
        case (_, "linear"): betas = Tensor.linspace(c.betaStart, c.betaEnd, count: count)
        case (_, "scaled_linear"):
            betas = Tensor.linspace(c.betaStart.squareRoot(), c.betaEnd.squareRoot(), count: count).square()
        case (_, "squaredcos_cap_v2"):
            func bar(_ t: Double) -> Double { pow(cos((t + 0.008) / 1.008 * .pi / 2), 2) }
            betas = Tensor(
                (0..<count).map { Float(min(1 - bar(Double($0 + 1) / Double(count)) / bar(Double($0) / Double(count)), 0.999)) })
        case (_, let other): throw ModelError("\(file): beta_schedule '\(other)' is not supported")
        }
        if c.rescaleBetasZeroSnr == true { betas = Self.rescaledToZeroTerminalSNR(betas) }
        alphasCumprod = try (1 - betas).cumprod(0).array(Float.self).map(Double.init)
        predictionType = c.predictionType
        // Steps divide by 1 - abar, and by abar if epsilon is predicted. Without a signal only noise can follow.
        guard alphasCumprod.dropLast().allSatisfy({ $0 > 0 && $0 < 1 }), let last = alphasCumprod.last, last >= 0, last < 1 else {
            throw ModelError("\(file): the betas give signal levels that are not between 0 and 1")
        }
        if last == 0, predictionType == .epsilon {
            throw ModelError(
                "\(file): prediction_type epsilon divides by zero where no signal is left "
                    + "(rescale_betas_zero_snr, or large betas); a model of such a schedule predicts v_prediction or sample")
        }
        guard c.clipSampleRange > 0 else { throw ModelError("\(file): clip_sample_range \(c.clipSampleRange) must be above zero") }
        let clips =
            switch samples {
            case .pixels: c.clipSample ?? false
            case .latents: found["clip_sample"] == .flag(true)
            case .stableDiffusion: false
            }
        clipRange = clips ? c.clipSampleRange : nil
        finalAlpha = c.setAlphaToOne ?? false ? 1 : alphasCumprod[0]
        stepsOffset = samples == .stableDiffusion ? 1 : c.stepsOffset
        spacing = c.timestepSpacing
        guard ["leading", "trailing", "linspace"].contains(spacing) else {
            throw ModelError("\(file): timestep_spacing '\(spacing)' is not supported")
        }
    }

    /// Refuses schedules that DDIM's steps do not fit.
    private static func validate(_ file: String, _ found: [String: JSONValue]) throws {
        if let name = found["_class_name"]?.text {
            guard classes.contains(name) else {
                throw ModelError(
                    "\(file): '\(name)' is not supported: its noise is not DDPM's, or its model was distilled; "
                        + "use a model with one of \(classes.joined(separator: ", "))")
            }
            if classesOfOtherBetas.contains(name), found["trained_betas"] ?? .null == .null {
                for key in ["beta_start", "beta_end"] where found[key] == nil {
                    throw ModelError("\(file): '\(key)' is missing, whose default differs between \(name) and DDIMScheduler; add it")
                }
            }
        }
        if let type = found["variance_type"]?.text, type.hasPrefix("learned") {
            throw ModelError(
                "\(file): variance_type '\(type)' is not supported: the network predicts a variance, too; use a model of fixed variance")
        }
        if let type = found["prediction_type"]?.text, PredictionType(rawValue: type) == nil {
            throw ModelError("\(file): prediction_type '\(type)' is not supported (epsilon, sample and v_prediction are)")
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
        var times: [Int]
        switch spacing {
        // numpy's operations in numpy's order: the numbers are rounded, and may lie half-way.
        case "linspace":
            let step = Double(total - 1) / Double(count - 1)
            times = (0..<count).map { $0 == count - 1 ? total - 1 : Int((Double($0) * step).rounded(.toNearestOrEven)) }.reversed()
            if count == 1 { times = [0] }
        case "trailing":
            let step = -(Double(total) / Double(count))
            let difference = (Double(total) + step) - Double(total)
            times = (0..<Int((-Double(total) / step).rounded(.up))).map {
                Int((Double(total) + Double($0) * difference).rounded(.toNearestOrEven)) - 1
            }
            // For some counts numpy's range has one number too many, and diffusers a step at time -1.
            times.removeAll { $0 < 0 }
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
        return (clipped(x0), epsilon)
    }

    /// Clips data as the configuration says.
    package func clipped(_ x0: Tensor) -> Tensor { clipRange.map { x0.clamp(-$0, $0) } ?? x0 }
}
