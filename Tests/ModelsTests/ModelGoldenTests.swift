import Foundation
import NN
import Tensors
import TestSupport
import Testing

@testable import Models

@Suite struct ModelGoldenTests {
    /// Stored weights beside the case whose outputs they give.
    @Test(arguments: [
        ("unet-sd1", "unet-sd1"), ("unet-sd2", "unet-sd2"), ("unet-odd", "unet-odd"), ("unet-nomid", "unet-nomid"), ("ddpm", "ddpm"),
        ("ddpm-heads", "ddpm-heads"), ("ddpm-legacy", "ddpm"), ("unet-sharded", "unet-odd"), ("unet-variant", "unet-odd"),
    ])
    func unet(folder: String, outputs: String) throws {
        let unet = try UNet(folder: ModelFolder(goldens.appendingPathComponent(folder)))
        let golden = try tensors("\(outputs)/golden.safetensors")
        let output = withoutGradients {
            unet(golden["sample"]!, timesteps: golden["timestep"]!, context: golden["encoder_hidden_states"])
        }
        #expect(try difference(output, golden["output"]!) < 1e-4)
    }

    @Test(arguments: [("vae-sd", "vae-sd"), ("vae-odd", "vae-odd"), ("vae-legacy", "vae-sd")])
    func autoencoder(folder: String, outputs: String) throws {
        let files = try ModelFolder(goldens.appendingPathComponent(folder))
        let vae = try AutoencoderKL(folder: files, withEncoder: true)
        let decoder = try AutoencoderKL(folder: files)
        let golden = try tensors("\(outputs)/golden.safetensors")
        try withoutGradients { () throws -> Void in
            let (mean, logVariance) = try vae.encode(golden["image"]!)
            #expect(throws: ModelError.self) { try decoder.encode(golden["image"]!) }
            #expect(try difference(mean, golden["mean"]!) < 1e-4)
            #expect(try difference(logVariance, golden["logvar"]!) < 1e-4)
            // The golden's latents are the decoder's own; ours are scaled as the diffusion model sees them.
            let latents = vae.scaled(golden["latents"]!)
            #expect(try difference(vae.decode(latents), golden["decoded"]!) < 1e-4)
            #expect(try difference(decoder.decode(latents), golden["decoded"]!) < 1e-4)
        }
    }

    @Test(arguments: [("vae-tiny", 4, 8, 1), ("vae-tiny-4x", 4, 4, 1), ("vae-tiny-odd", 3, 3, 0.7)])
    func tinyAutoencoder(folder: String, channels: Int, scale: Int, scalingFactor: Double) throws {
        let decoder = try AutoencoderTiny(folder: ModelFolder(goldens.appendingPathComponent(folder)))
        #expect(decoder.latentChannels == channels && decoder.scale == scale)
        let golden = try tensors("\(folder)/golden.safetensors")
        // The golden's latents are the decoder's own; ours are scaled as the diffusion model sees them.
        let decoded = withoutGradients { decoder.decode(golden["latents"]! * scalingFactor) }
        #expect(try difference(decoded, golden["decoded"]!) < 1e-5)
    }

    @Test(arguments: ["clip-sd1", "clip-sd2"])
    func textEncoder(folder: String) throws {
        let encoder = try CLIPTextModel(folder: ModelFolder(goldens.appendingPathComponent(folder)))
        let golden = try tensors("\(folder)/golden.safetensors")
        let ids = golden["input_ids"]!
        let rows = try (0..<ids.size(0)).map { try ids.select(0, $0).array(Int64.self).map(Int.init) }
        #expect(try difference(encoder(rows), golden["last_hidden_state"]!) < 1e-4)
    }

    /// Attention, and all other layers that kohya's LoCon adapts, convolutions among them.
    @Test(arguments: ["lora", "lora-locon"], ["lora", "lora_kohya"])
    func loraOutputsAndGradients(folder: String, name: String) throws {
        let unet = try UNet(folder: ModelFolder(goldens.appendingPathComponent("unet-sd1")))
        let golden = try tensors("\(folder)/golden.safetensors")
        func run() -> Tensor { unet(golden["sample"]!, timesteps: golden["timestep"]!, context: golden["encoder_hidden_states"]) }
        let file = goldens.appendingPathComponent("\(folder)/\(name).safetensors")
        let lora = try LoRAAdapters(contentsOf: file, attachingTo: unet.layers, device: .cpu)
        for (_, tensor) in lora.parameters { tensor.requiresGrad = true }
        let output = run()
        #expect(try difference(output, golden["output"]!) < 1e-4)
        #expect(try difference(unet.withoutAdapters { run() }, golden["base_output"]!) < 1e-4)
        try (output * golden["loss_weight"]!).mean().backward()
        for (name, tensor) in lora.parameters {
            #expect(try difference(#require(tensor.grad), #require(golden["grad.unet.\(name).weight"])) < 1e-3, "\(name)")
        }
    }

    /// Blocks that are computed again in the backward pass give the same gradients to the bit, with adapters and
    /// with all weights trained.
    @Test(arguments: ["unet-sd1", "unet-sd2", "ddpm"], [DType.float32, .bfloat16])
    func gradientCheckpointing(folder: String, dtype: DType) throws {
        let files = try ModelFolder(goldens.appendingPathComponent(folder))
        let golden = try tensors("\(folder)/golden.safetensors")
        func gradients(trainsAll: Bool, checkpointing: Bool) throws -> [String: [Float]] {
            let store = try files.parameters(dtype: .float32, device: .cpu)
            let unet = try UNet(UNetConfiguration.read(files), dtype: dtype, store)
            let lora = try LoRAAdapters(rank: 4, seed: 1, attachingTo: unet.layers, device: .cpu).parameters
            // B is zero at first, and with it the gradient of A.
            withoutGradients { for (_, tensor) in lora { tensor.copy_(tensor + 0.1) } }
            let trained = Dictionary(uniqueKeysWithValues: lora.map { ($0.name, $0.tensor) })
                .merging(trainsAll ? store.parameters : [:]) { first, _ in first }
            for tensor in trained.values { tensor.requiresGrad = true }
            let output = GradientCheckpointing.$isEnabled.withValue(checkpointing) {
                unet(golden["sample"]!, timesteps: golden["timestep"]!, context: golden["encoder_hidden_states"])
            }
            try output.to(.float32).square().mean().backward()
            return try trained.compactMapValues { try $0.grad?.array() }
        }
        for trainsAll in [false, true] {
            let plain = try gradients(trainsAll: trainsAll, checkpointing: false)
            #expect(!plain.isEmpty && plain.values.allSatisfy { $0.contains { $0 != 0 } || trainsAll })
            #expect(try gradients(trainsAll: trainsAll, checkpointing: true) == plain)
        }
    }

    /// A written file equals, tensor for tensor, the reference's file, which diffusers and ComfyUI load.
    @Test(arguments: ["lora", "lora-locon"])
    func loraFileAsWritten(name: String) throws {
        let unet = try UNet(folder: ModelFolder(goldens.appendingPathComponent("unet-sd1")))
        let file = goldens.appendingPathComponent("\(name)/lora_kohya.safetensors")
        let folder = try TemporaryFolder()
        let copy = folder.url.appendingPathComponent("lora.safetensors")
        try LoRAAdapters(contentsOf: file, attachingTo: unet.layers, device: .cpu).encoded().write(to: copy)
        let (written, read) = (try Safetensors(contentsOf: copy).tensors, try Safetensors(contentsOf: file).tensors)
        #expect(Set(written.keys) == Set(read.keys))
        for (name, tensor) in read { #expect(try difference(#require(written[name]), tensor) == 0) }
    }
}
