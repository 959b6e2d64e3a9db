// Compares the models at full size with what scripts/full_size_reference.py wrote of diffusers and transformers:
//   scripts/full_size_reference.py make DIR && .build/release/full-size DIR [unet|vae|text_encoder]
// and measures rows forward and backward with a LoRA, in any model's folder: full-size DIR training [rows=1] [checkpointing]
// Each component runs in a process of its own, so that the peak memory is its own.
import Foundation
@testable import Models
@testable import NN
@testable import Tensors

/// Peak resident memory of this process in MB.
func peakMegabytes() -> Int {
    let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
    let line = status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") }
    return (line?.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { Int($0) } ?? 0) / 1024
}

/// Largest and mean difference, relative to the largest expected value.
func differences(_ actual: Tensor, _ expected: Tensor) throws -> (largest: Double, mean: Double) {
    let (a, b) = (try actual.array(Float.self), try expected.array(Float.self))
    let scale = Double(b.map { abs($0) }.max() ?? 1)
    let d = zip(a, b).map { Double(abs($0 - $1)) }
    return ((d.max() ?? 0) / scale, d.reduce(0, +) / Double(d.count) / scale)
}

/// Seconds from `start` until now.
func seconds(since start: ContinuousClock.Instant) -> Double { start.duration(to: .now) / .seconds(1) }

/// Rows forward and backward, with gradients for a LoRA; the peak is that after loading.
func measureTraining(_ root: URL, _ dtype: DType, rows: Int, checkpointing: Bool) throws {
    let unet = try UNet(folder: ModelFolder(root.appendingPathComponent("unet")), dtype: dtype)
    let c = unet.configuration
    let generator = Generator(seed: 0)
    let sample = Tensor.randn([rows, c.inChannels, c.sampleSize?[0] ?? 64, c.sampleSize?[1] ?? 64], generator: generator)
    let context = unet.textWidth.map { Tensor.randn([rows, 77, $0], generator: generator) }
    let lora = LoRAAdapters(rank: 4, seed: 0, attachingTo: unet.linears, device: .cpu).parameters
    for (_, tensor) in lora { tensor.requiresGrad = true }
    // Resets the peak, which loading has raised by the pages of the mapped file.
    try Data("5".utf8).write(to: URL(fileURLWithPath: "/proc/self/clear_refs"))
    let loaded = peakMegabytes()
    var fastest = Double.infinity
    for _ in 0..<3 {
        let start = ContinuousClock.now
        let output = GradientCheckpointing.$isEnabled.withValue(checkpointing) {
            unet(sample, timesteps: Tensor.full([rows], 501, dtype: .int64), context: context).to(.float32)
        }
        try output.square().mean().backward()
        fastest = min(fastest, seconds(since: start))
    }
    print(
        String(
            format: "training %@, %d rows%@: %.4f s a row forward and backward, loaded %d MB, peak %d MB, %d threads",
            "\(dtype)", rows, checkpointing ? ", checkpointing" : "", fastest / Double(rows), loaded, peakMegabytes(), Torch.threads))
}

func measure(_ component: String, _ root: URL, _ dtype: DType) throws {
    let folder = try ModelFolder(root.appendingPathComponent(component))
    let golden = try Safetensors(contentsOf: root.appendingPathComponent("golden/\(component).safetensors")).tensors
    let loading = ContinuousClock.now
    let run: () throws -> Tensor
    let expected: Tensor
    switch component {
    case "unet":
        let unet = try UNet(folder: folder, dtype: dtype)
        run = { unet(golden["sample"]!, timesteps: golden["timestep"]!, context: golden["encoder_hidden_states"]).to(.float32) }
        expected = golden["output"]!
    case "vae":
        let vae = try AutoencoderKL(folder: folder, dtype: dtype)
        run = { vae.decode(vae.scaled(golden["latents"]!)) }
        expected = golden["image"]!
    default:
        let encoder = try CLIPTextModel(folder: folder)
        let ids = try golden["input_ids"]!.array(Int64.self).map(Int.init)
        run = { try encoder([ids]) }
        expected = golden["last_hidden_state"]!
    }
    let loaded = ContinuousClock.now
    var fastest = Double.infinity
    var output = expected
    try withoutGradients { () throws -> Void in
        for _ in 0..<2 {
            let start = ContinuousClock.now
            output = try run()
            _ = try output.array(Float.self)
            fastest = min(fastest, seconds(since: start))
        }
    }
    let (largest, mean) = try differences(output, expected)
    print(
        String(
            format:
                "%@ %@: largest difference %.2e, mean %.2e (relative to the largest value); %.2f s, loaded in %.1f s, peak %d MB, %d threads",
            component, "\(dtype)", largest, mean, fastest, Double(loading.duration(to: loaded).components.seconds), peakMegabytes(),
            Torch.threads))
    // bfloat16 has 8 bits; float32's bound is that of the small goldens.
    guard largest < (dtype == .float32 ? 1e-4 : 0.1) else { exit(1) }
}

let arguments = CommandLine.arguments.dropFirst()
guard let root = arguments.first else {
    let usage = "usage: full-size DIR [unet|vae|text_encoder|training [bf16] [rows=N] [checkpointing] [THREADS]]\n"
    FileHandle.standardError.write(Data(usage.utf8))
    exit(2)
}
if let component = arguments.dropFirst().first {
    if let threads = arguments.last.flatMap({ Int($0) }) { Torch.threads = threads }
    let (folder, dtype) = (URL(fileURLWithPath: root), arguments.contains("bf16") ? DType.bfloat16 : .float32)
    do {
        if component == "training" {
            let rows = arguments.lazy.compactMap { $0.hasPrefix("rows=") ? Int($0.dropFirst(5)) : nil }.first ?? 1
            try measureTraining(folder, dtype, rows: rows, checkpointing: arguments.contains("checkpointing"))
        } else {
            try measure(component, folder, dtype)
        }
    } catch {
        FileHandle.standardError.write(Data("full-size: \(error)\n".utf8))
        exit(1)
    }
} else {
    let training = [["training", "bf16"], ["training", "bf16", "checkpointing"]]
    for component in [["text_encoder"], ["vae"], ["unet"], ["vae", "bf16"], ["unet", "bf16"]] + training {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: CommandLine.arguments[0])
        process.arguments = [root] + component + ["1"]
        try process.run()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else { exit(1) }
    }
}
