import Foundation
import TestSupport
import Testing

@testable import Models

/// Reads a scheduler_config.json of this text.
private func scheduler(_ text: String, samples: DDIMScheduler.Samples = .pixels) throws -> DDIMScheduler {
    try withFolder { folder in
        try Data(text.utf8).write(to: folder.appendingPathComponent("scheduler_config.json"))
        return try DDIMScheduler(folder: ModelFolder(folder), samples: samples)
    }
}

@Suite struct SchedulerTests {
    /// Timesteps of diffusers' DDIMScheduler for every number of steps (Tests/Goldens/make_timesteps.py).
    @Test func timestepsOfEveryCount() throws {
        let cases = try #require(try json("timesteps.json") as? [[String: Any]])
        #expect(cases.count == 6)
        for golden in cases {
            let (spacing, offset) = (try #require(golden["timestep_spacing"] as? String), try #require(golden["steps_offset"] as? Int))
            let scheduler = try scheduler(#"{"timestep_spacing": "\#(spacing)", "steps_offset": \#(offset)}"#)
            for (index, expected) in try #require(golden["checksums"] as? [Any]).enumerated() {
                let times = try? scheduler.steps(index + 1).map(\.time)
                let found = times.map { checksum($0.map(String.init).joined(separator: ",")) }
                #expect(found == expected as? Int, "\(spacing), offset \(offset), \(index + 1) steps")
            }
        }
    }

    /// CRC-32, as of zlib.
    private func checksum(_ text: String) -> Int {
        var crc = ~UInt32(0)
        for byte in text.utf8 {
            crc ^= UInt32(byte)
            for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0xEDB8_8320 : crc >> 1 }
        }
        return Int(~crc)
    }

    /// Classes of another noise schedule, and what else DDIM's steps do not fit, are refused by name.
    @Test(arguments: [
        (#"{"_class_name": "FlowMatchEulerDiscreteScheduler"}"#, "FlowMatchEulerDiscreteScheduler"),
        (#"{"_class_name": "EDMEulerScheduler"}"#, "EDMEulerScheduler"), (#"{"_class_name": "LCMScheduler"}"#, "LCMScheduler"),
        (#"{"_class_name": "MyScheduler"}"#, "MyScheduler"),
        (#"{"_class_name": "DDPMScheduler", "variance_type": "learned_range"}"#, "variance_type 'learned_range'"),
        (#"{"variance_type": "learned"}"#, "variance_type 'learned'"),
        (#"{"_class_name": "HeunDiscreteScheduler", "beta_end": 0.02}"#, "'beta_start' is missing"),
        (#"{"_class_name": "UniPCMultistepScheduler", "use_flow_sigmas": true}"#, "use_flow_sigmas true"),
        (#"{"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous"}"#, "timestep_type \"continuous\""),
        (#"{"prediction_type": "flow_prediction"}"#, "flow_prediction"), (#"{"thresholding": true}"#, "thresholding"),
        (#"{"rescale_betas_zero_snr": true}"#, "divides by zero"), (#"{"trained_betas": [0.1, 1.0]}"#, "divides by zero"),
        (#"{"trained_betas": [0.1, 0.2], "num_train_timesteps": 1000}"#, "num_train_timesteps"),
        (#"{"trained_betas": [0.0, 0.5], "prediction_type": "sample"}"#, "not between 0 and 1"),
        (#"{"beta_start": NaN}"#, "bad value at 'beta_start'"), (#"{"beta_start": -0.1}"#, "not between 0 and 1"),
        (#"{"clip_sample_range": -1}"#, "clip_sample_range -1.0 must be above zero"),
        (#"{"steps_offset": null}"#, "'steps_offset' is null"), (#"{"beta_start": "#, "not valid JSON"),
    ])
    func refused(text: String, culprit: String) {
        let error = #expect(throws: ModelError.self) { try scheduler(text) }
        #expect(error?.description.contains(culprit) == true, "\(text): \(error!)")
    }

    /// Every class whose noise is DDPM's has the same signal levels; numbers that only Python writes are read.
    @Test func acceptedClasses() throws {
        let levels = try scheduler(#"{"beta_schedule": "scaled_linear"}"#).alphasCumprod
        for name in DDIMScheduler.classes {
            let text = #"""
                {"_class_name": "\#(name)", "lambda_min_clipped": -Infinity, "flow_shift": NaN, "beta_schedule": "scaled_linear",
                 "beta_start": 0.0001, "beta_end": 0.02, "name": "NaN\" Infinity", "variance_type": null, "use_karras_sigmas": true}
                """#
            #expect(try scheduler(text).alphasCumprod == levels)
        }
    }

    /// Pixels are clipped unless the file says no, latents only if it says yes; StableDiffusionPipeline sets
    /// `clip_sample` and `steps_offset` itself.
    @Test func clippingFollowsTheSamples() throws {
        for (text, pixels, latents) in [
            ("{}", 1.0, nil), (#"{"clip_sample": true, "clip_sample_range": 2}"#, 2, 2), (#"{"clip_sample": false}"#, nil, nil),
            (#"{"clip_sample": null}"#, nil, nil),
        ] as [(String, Double?, Double?)] {
            #expect(try scheduler(text).clipRange == pixels, "\(text)")
            #expect(try scheduler(text, samples: .latents).clipRange == latents, "\(text)")
            #expect(try scheduler(text, samples: .stableDiffusion).clipRange == nil, "\(text)")
        }
        #expect(try scheduler(#"{"steps_offset": 0}"#, samples: .stableDiffusion).steps(10).last?.time == 1)
        #expect(try scheduler(#"{"steps_offset": 0}"#, samples: .latents).steps(10).last?.time == 0)
    }

    /// null counts as false.
    @Test func nullIsNotAbsent() throws {
        let null = try scheduler(#"{"set_alpha_to_one": null}"#)
        #expect(try null.steps(10).last?.alphaNext == null.alphasCumprod[0])
        #expect(try scheduler("{}").steps(10).last?.alphaNext == 1)
    }
}
