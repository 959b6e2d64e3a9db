import ArgumentParser
import Foundation
@testable import DAGCore
@testable import Models
@testable import NN
@testable import Tensors

/// Measures the memory and time of rows of the U-Net forward and backward, with gradients for a LoRA, on the CPU.
struct Memory: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measure the peak memory of the U-Net with the gradients of LoRA, on the CPU.")

    @Argument(help: "A folder in diffusers' layout.") var folder: String
    @Option(help: "fp32 or bf16.") var precision = Precision.bf16
    @Option(help: "Rows at once.") var rows = 1
    @Flag(help: "With gradient checkpointing.") var checkpointing = false
    @Option(help: "Threads of the CPU.") var threads = 1

    func run() throws {
        Torch.threads = threads
        let dtype = precision.resolve(on: .cpu)
        let unet = try UNet(folder: ModelFolder(URL(fileURLWithPath: folder).appendingPathComponent("unet")), dtype: dtype)
        let c = unet.configuration
        let generator = Generator(seed: 0)
        let sample = Tensor.randn([rows, c.inChannels, c.sampleSize?[0] ?? 64, c.sampleSize?[1] ?? 64], generator: generator)
        let context = unet.textWidth.map { Tensor.randn([rows, 77, $0], generator: generator) }
        let lora = try LoRAAdapters(rank: 4, seed: 0, attachingTo: unet.layers, device: .cpu).parameters.map(\.tensor)
        for tensor in lora { tensor.requiresGrad = true }
        // Resets the peak, which loading has raised by the pages of the mapped file.
        try Data("5".utf8).write(to: URL(fileURLWithPath: "/proc/self/clear_refs"))
        let loaded = peakMegabytes()
        let time = try milliseconds(runs: 3, warmUps: 1) {
            let output = GradientCheckpointing.$isEnabled.withValue(checkpointing) {
                unet(sample, timesteps: Tensor.full([rows], 501, dtype: .int64), context: context).to(.float32)
            }
            let loss = output.square().mean()
            try loss.backward()
            return loss
        }
        print(
            String(
                format: "%@, %d rows%@: %.1f ms a row forward and backward, loaded %d MB, peak %d MB, %d threads",
                "\(dtype)", rows, checkpointing ? ", checkpointing" : "", time / Double(rows), loaded, peakMegabytes(), Torch.threads))
    }
}
