// Compares the models at full size with what scripts/full_size_reference.py wrote of diffusers and transformers:
//   scripts/full_size_reference.py make DIR && .build/release/full-size DIR [unet|vae|taesd|text_encoder]
// Each component runs in a process of its own, so that the peak memory is its own.
import Foundation
@testable import Models
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
    case "taesd":
        let decoder = try AutoencoderTiny(folder: folder, dtype: dtype)
        run = { decoder.decode(golden["latents"]!) }
        expected = golden["image"]!
    default:
        let encoder = try CLIPTextModel(folder: folder)
        let ids = try golden["input_ids"]!.array(Int64.self).map(Int.init)
        run = { try encoder([ids]) }
        expected = golden["last_hidden_state"]!
    }
    let loaded = ContinuousClock.now
    var seconds = Double.infinity
    var output = expected
    try withoutGradients { () throws -> Void in
        for _ in 0..<2 {
            let start = ContinuousClock.now
            output = try run()
            _ = try output.array(Float.self)
            let elapsed = start.duration(to: .now).components
            seconds = min(seconds, Double(elapsed.seconds) + Double(elapsed.attoseconds) * 1e-18)
        }
    }
    let (largest, mean) = try differences(output, expected)
    print(
        String(
            format:
                "%@ %@: largest difference %.2e, mean %.2e (relative to the largest value); %.2f s, loaded in %.1f s, peak %d MB, %d threads",
            component, "\(dtype)", largest, mean, seconds, Double(loading.duration(to: loaded).components.seconds), peakMegabytes(),
            Torch.threads))
    // bfloat16 has 8 bits; float32's bound is that of the small goldens.
    guard largest < (dtype == .float32 ? 1e-4 : 0.1) else { exit(1) }
}

let arguments = CommandLine.arguments.dropFirst()
guard let root = arguments.first else {
    FileHandle.standardError.write(Data("usage: full-size DIR [unet|vae|taesd|text_encoder [bf16] [THREADS]]\n".utf8))
    exit(2)
}
if let component = arguments.dropFirst().first {
    if let threads = arguments.last.flatMap({ Int($0) }) { Torch.threads = threads }
    do {
        try measure(component, URL(fileURLWithPath: root), arguments.contains("bf16") ? .bfloat16 : .float32)
    } catch {
        FileHandle.standardError.write(Data("full-size: \(error)\n".utf8))
        exit(1)
    }
} else {
    for component in [["text_encoder"], ["vae"], ["taesd"], ["unet"], ["vae", "bf16"], ["taesd", "bf16"], ["unet", "bf16"]] {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: CommandLine.arguments[0])
        process.arguments = [root] + component + ["1"]
        try process.run()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else { exit(1) }
    }
}
