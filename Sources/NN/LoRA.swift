import Foundation
import Tensors

/// A low-rank adapter of one linear layer: y += (alpha / r) * x A^T B^T (Hu et al. 2021; peft's LoraConfig).
package final class LoRA {
    /// [rank, in], float32.
    package let a: Tensor
    /// [out, rank], float32.
    package let b: Tensor
    /// Whether the layer adds the adapter's output.
    package var isEnabled = true
    fileprivate let alpha: Double
    /// The factor of the adapter's output: alpha / rank.
    let scale: Double

    init(a: Tensor, b: Tensor, alpha: Double) {
        self.a = a
        self.b = b
        self.alpha = alpha
        scale = alpha / Double(a.size(0))
    }
}

/// All adapters of a model, by the keys of their layers.
package struct LoRAAdapters {
    /// The adapters, by layer key such as `down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q`.
    package let adapters: [String: LoRA]

    /// Ends of the keys of layers that get an adapter: the attention projections, as in the paper.
    package static let targets = ["to_q", "to_k", "to_v", "to_out.0"]

    /// Attaches fresh adapters to every attention projection: A normal
    /// with standard deviation 1 / rank, B zero (peft's "gaussian").
    package init(rank: Int, seed: UInt64, attachingTo linears: [String: Linear], device: Device) {
        let generator = Generator(seed: seed)
        var adapters: [String: LoRA] = [:]
        for (key, layer) in Self.attachable(linears) {
            adapters[key] = LoRA(
                a: (Tensor.randn([rank, layer.features.in], generator: generator) * (1 / Double(rank))).to(device),
                b: Tensor.zeros([layer.features.out, rank], device: device), alpha: Double(rank))
        }
        self.init(adapters, attachingTo: linears)
    }

    /// Attaches the adapters of a LoRA file to the layers that it names: see `LoRAFile`.
    /// - Throws: `TensorFileError` that names the file if it is damaged or does not fit these layers.
    package init(contentsOf file: URL, attachingTo linears: [String: Linear], device: Device) throws {
        let stored = try LoRAFile(contentsOf: file, linears: linears).adapters
        self.init(
            stored.mapValues { adapter in
                func own(_ tensor: Tensor?) -> Tensor { tensor!.to(.float32).to(device).clone() }
                return LoRA(a: own(adapter.a), b: own(adapter.b), alpha: adapter.alpha!)
            }, attachingTo: linears)
    }

    private init(_ adapters: [String: LoRA], attachingTo linears: [String: Linear]) {
        for (key, lora) in adapters { linears[key]?.lora = lora }
        self.adapters = adapters
    }

    private static func attachable(_ linears: [String: Linear]) -> [(key: String, value: Linear)] {
        linears.filter { entry in targets.contains { entry.key.hasSuffix("." + $0) } }.sorted { $0.key < $1.key }
    }

    /// The trained tensors by layer, in the order of the names.
    package var parameters: [(name: String, tensor: Tensor)] {
        adapters.sorted { $0.key < $1.key }.flatMap { [("\($0.key).lora_A", $0.value.a), ("\($0.key).lora_B", $0.value.b)] }
    }
}

extension LoRAAdapters {
    /// Encodes a safetensors file that both diffusers' `load_lora_weights` and ComfyUI load: kohya's names,
    /// and one `alpha` for each layer.
    /// - Throws: `TensorError` if an operation on tensors failed before.
    package func encoded() throws -> Data {
        var tensors: [String: Tensor] = [:]
        for (key, lora) in adapters {
            let stem = "lora_unet_" + key.replacing(".", with: "_")
            tensors[stem + ".lora_down.weight"] = lora.a.detach()
            tensors[stem + ".lora_up.weight"] = lora.b.detach()
            tensors[stem + ".alpha"] = Tensor.full([], lora.alpha)
        }
        return try Safetensors.encode(tensors, metadata: ["format": "pt"])
    }
}
