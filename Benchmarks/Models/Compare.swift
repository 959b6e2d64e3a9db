import ArgumentParser
import Foundation
@testable import DAGCore
@testable import Models
@testable import Tensors

/// Compares the models at full size with what scripts/full_size_reference.py wrote of diffusers and transformers.
struct Compare: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Compare each component with what scripts/full_size_reference.py wrote.",
        discussion: "Each runs in a process of its own, so that the peak memory is its own.")

    @Argument(help: "The folder that the script made.") var folder: String
    @Argument(help: "text_encoder, vae, taesd or unet; all by default.") var component: String?
    @Option(help: "fp32 or bf16.") var precision = Precision.fp32
    @Option(help: "cpu or cuda.") var device = DeviceChoice.cpu
    @Option(help: "Threads of the CPU.") var threads = 1

    func run() throws {
        guard let component else { return try runEach() }
        Torch.threads = threads
        try compare(component, precision.resolve(on: device.resolve()), device.resolve())
    }

    private func runEach() throws {
        let bf16 = ["vae", "taesd", "unet"].map { [$0, "--precision", "bf16"] }
        for words in [["text_encoder"], ["vae"], ["taesd"], ["unet"]] + bf16 {
            let process = Process()
            process.executableURL = URL(fileURLWithPath: CommandLine.arguments[0])
            process.arguments = ["compare", folder] + words + ["--device", device.rawValue, "--threads", "\(threads)"]
            try process.run()
            process.waitUntilExit()
            guard process.terminationStatus == 0 else { throw ExitCode.failure }
        }
    }

    private func compare(_ component: String, _ dtype: DType, _ device: Device) throws {
        let root = URL(fileURLWithPath: folder)
        let weights = try ModelFolder(root.appendingPathComponent(component))
        let golden = try Safetensors(contentsOf: root.appendingPathComponent("golden/\(component).safetensors")).tensors
            .mapValues { $0.to(device) }
        let loading = ContinuousClock.now
        let call: () throws -> Tensor
        let expected: Tensor
        switch component {
        case "unet":
            let unet = try UNet(folder: weights, dtype: dtype, device: device)
            call = { unet(golden["sample"]!, timesteps: golden["timestep"]!, context: golden["encoder_hidden_states"]).to(.float32) }
            expected = golden["output"]!
        case "vae":
            let vae = try AutoencoderKL(folder: weights, dtype: dtype, device: device)
            call = { vae.decode(vae.scaled(golden["latents"]!)) }
            expected = golden["image"]!
        case "taesd":
            let decoder = try AutoencoderTiny(folder: weights, dtype: dtype, device: device)
            call = { decoder.decode(golden["latents"]!) }
            expected = golden["image"]!
        case "text_encoder":
            let encoder = try CLIPTextModel(folder: weights, device: device)
            let ids = try golden["input_ids"]!.array(Int64.self).map(Int.init)
            call = { try encoder([ids]) }
            expected = golden["last_hidden_state"]!
        default: throw ValidationError("\(component): the components are text_encoder, vae, taesd and unet")
        }
        let loaded = ContinuousClock.now
        var actual = expected
        let time = try withoutGradients {
            try milliseconds(runs: 2, warmUps: 0) {
                actual = try call()
                return actual
            }
        }
        let (largest, mean) = try differences(actual, expected)
        print(
            String(
                format:
                    "%@ %@: largest difference %.2e, mean %.2e (relative to the largest value); %.2f s, loaded in %.1f s, peak %d MB, %d threads",
                component, "\(dtype)", largest, mean, time / 1000, loaded.milliseconds(since: loading) / 1000, peakMegabytes(),
                Torch.threads))
        // bfloat16 has 8 bits; float32's bound is that of the small goldens.
        guard largest < (dtype == .float32 ? 1e-4 : 0.1) else { throw ExitCode.failure }
    }

    /// Largest and mean difference, relative to the largest expected value.
    private func differences(_ actual: Tensor, _ expected: Tensor) throws -> (largest: Double, mean: Double) {
        let (a, b) = (try actual.array(Float.self), try expected.array(Float.self))
        let scale = Double(b.map { abs($0) }.max() ?? 1)
        let d = zip(a, b).map { Double(abs($0 - $1)) }
        return ((d.max() ?? 0) / scale, d.reduce(0, +) / Double(d.count) / scale)
    }
}
