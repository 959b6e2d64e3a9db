import Foundation
import Models
import Tensors
import TestSupport
import Testing

@testable import DAGCore

@Suite struct SchedulerGoldenTests {
    /// Time grids, signal levels and steps of diffusers' DDIMScheduler for eleven configurations.
    @Test func schedulersEqualDiffusers() throws {
        let cases = try #require(try json("schedulers.json") as? [[String: Any]])
        #expect(cases.count >= 11)
        for golden in cases {
            let name = Comment(rawValue: golden["name"] as? String ?? "?")
            let scheduler = try scheduler(#require(golden["config"]))
            for (t, value) in try #require(golden["alphas_cumprod"] as? [String: Double]) {
                #expect(abs(scheduler.alphasCumprod[Int(t)!] - value) < 1e-7, name)
            }
            for (count, times) in try #require(golden["timesteps"] as? [String: [Int]]) {
                #expect(try scheduler.steps(Int(count)!).map(\.time) == times, name)
            }
            for step in try #require(golden["steps"] as? [[String: Any]]) {
                let count = try #require(step["num_inference_steps"] as? Int)
                let eta = try #require(step["eta"] as? Double)
                func row(_ key: String) throws -> Tensor {
                    let values = try #require(step[key] as? [Double])
                    return Tensor(values.map(Float.init), shape: [1, values.count])
                }
                let kernels = try DDIMKernel(scheduler: scheduler, steps: count, eta: eta, sampleRank: 2)
                let number = try #require(kernels.steps.firstIndex { $0.time == step["timestep"] as? Int })
                let indices = Tensor([Int64(number)])
                let x = try row("sample")
                let (next, _) = kernels.sample(try row("model_output"), x: x, noise: try row("variance_noise"), steps: indices)
                let x0 = kernels.predictedData(try row("model_output"), x: x, steps: indices)
                // With no signal left, epsilon's coefficient is zero: in float32 diffusers gets the root of a
                // rounding error.
                let tolerance = kernels.steps[number].alpha == 0 ? 1e-3 : 2e-5
                #expect(difference(try next.array(Float.self).map(Double.init), step["prev_sample"] as! [Double]) < tolerance, name)
                #expect(difference(try x0.array(Float.self).map(Double.init), step["pred_original_sample"] as! [Double]) < 2e-5, name)
            }
        }
    }

    /// log P_F and log P_B of formulas evaluated in float64 by numpy.
    @Test(arguments: [LogProbabilityReduction.mean, .sum])
    func kernels(reduction: LogProbabilityReduction) throws {
        for golden in try #require(try json("kernels.json") as? [[String: Any]]) {
            func number(_ key: String) -> Double { golden[key] as! Double }
            // A chain of one step between the case's two signal levels.
            let (alpha, next) = (number("abar_t"), number("abar_t_next"))
            let scheduler = try scheduler([
                "trained_betas": [1 - next, 1 - alpha / next], "prediction_type": golden["prediction_type"]!,
                "clip_sample": golden["clip_sample"]!, "timestep_spacing": "trailing", "set_alpha_to_one": false,
            ])
            let kernels = try DDIMKernel(scheduler: scheduler, steps: 2, eta: number("eta"), reduction: reduction, sampleRank: 2)
            #expect(kernels.steps[0].next == 0)
            func rows(_ key: String) -> Tensor { Tensor((golden[key] as! [[Double]]).joined().map(Float.init), shape: [2, 8]) }
            let indices = Tensor([Int64(0), 0])
            let forward = kernels.logForward(rows("model_output"), x: rows("x_t"), next: rows("x_t_next"), steps: indices)
            let backward = kernels.logBackward(x: rows("x_t"), next: rows("x_t_next"), steps: indices)
            // float32 signal levels lose digits where t and t' are close to the data.
            let time = try #require(golden["t"] as? Int)
            let tolerance = time <= 21 ? 2e-3 : 1e-3
            #expect(difference(try forward.array(), golden["log_pf_\(reduction.rawValue)"] as! [Double]) < tolerance, "t = \(time)")
            #expect(difference(try backward.array(), golden["log_pb_\(reduction.rawValue)"] as! [Double]) < tolerance, "t = \(time)")
        }
    }
}
