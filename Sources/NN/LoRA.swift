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
    /// The factor of the adapter's output: alpha / rank.
    let scale: Double

    init(a: Tensor, b: Tensor, alpha: Double) {
        self.a = a
        self.b = b
        scale = alpha / Double(a.size(0))
    }
}

/// All adapters of a model, by the keys of their layers.
package struct LoRAAdapters {
    /// The adapters, by layer key such as `down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q`.
    package let adapters: [String: LoRA]
    private let alpha: Double

    /// Ends of the keys of layers that get an adapter: the attention projections, as in the paper.
    package static let targets = ["to_q", "to_k", "to_v", "to_out.0"]

    /// Attaches fresh adapters to every attention projection: A normal
    /// with standard deviation 1 / rank, B zero (peft's "gaussian").
    package init(rank: Int, seed: UInt64, attachingTo linears: [String: Linear], device: Device) {
        let generator = Generator(seed: seed)
        self.init(alpha: Double(rank), linears) { _, layer in
            (
                (Tensor.randn([rank, layer.features.in], generator: generator) * (1 / Double(rank))).to(device),
                Tensor.zeros([layer.features.out, rank], device: device)
            )
        }
    }

    /// Attaches the adapters of a LoRA file with the names that `encoded` writes, or with diffusers' own,
    /// `unet.<layer>.lora_A.weight`.
    /// - Throws: `TensorFileError` that names the file if it is damaged or does not fit these layers.
    package init(contentsOf file: URL, attachingTo linears: [String: Linear], device: Device) throws {
        let stored = try Safetensors(contentsOf: file)
        let layers = Self.attachable(linears).map(\.key)
        let names =
            LoRANames.allCases.max { a, b in a.matches(stored.tensors, layers) < b.matches(stored.tensors, layers) } ?? .kohya
        let expected = Set(layers.flatMap { [names.a($0), names.b($0)] })
        let missing = expected.subtracting(stored.tensors.keys).sorted()
        let unknown = Set(stored.tensors.keys).subtracting(expected).subtracting(layers.compactMap(names.alpha)).sorted()
        guard missing.isEmpty, unknown.isEmpty, !layers.isEmpty else {
            let example = missing.first.map { "missing \($0)" } ?? unknown.first.map { "unknown \($0)" } ?? "no attention layers to adapt"
            throw TensorFileError(
                "\(file.path): not a LoRA of this model's attention projections "
                    + "(\(example); \(missing.count) missing, \(unknown.count) unknown)"
            )
        }
        let rank = stored.tensors[names.a(layers[0])]?.shape.first ?? 0
        var alpha = Double(rank)
        if let name = names.alpha(layers[0]), let tensor = stored.tensors[name] { alpha = try tensor.to(.float32).item() }
        for (key, layer) in Self.attachable(linears) {
            if let name = names.alpha(key), try (stored.tensors[name]?.to(.float32).item() ?? Double(rank)) != alpha {
                throw TensorFileError("\(file.path): its layers have different alphas, which is not supported")
            }
            let shapes = [stored.tensors[names.a(key)]?.shape, stored.tensors[names.b(key)]?.shape]
            guard shapes == [[rank, layer.features.in], [layer.features.out, rank]] else {
                throw TensorFileError(
                    "\(file.path): the adapter of \(key) has shapes \(shapes.compactMap { $0 }) that do not fit this model")
            }
        }
        self.init(alpha: alpha, linears) { key, _ in
            func load(_ name: String) -> Tensor { stored.tensors[name]!.to(.float32).to(device).clone() }
            return (load(names.a(key)), load(names.b(key)))
        }
    }

    private init(alpha: Double, _ linears: [String: Linear], _ make: (String, Linear) -> (Tensor, Tensor)) {
        self.alpha = alpha
        var adapters: [String: LoRA] = [:]
        for (key, layer) in Self.attachable(linears) {
            let (a, b) = make(key, layer)
            let lora = LoRA(a: a, b: b, alpha: alpha)
            layer.lora = lora
            adapters[key] = lora
        }
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
            tensors[LoRANames.kohya.a(key)] = lora.a.detach()
            tensors[LoRANames.kohya.b(key)] = lora.b.detach()
            tensors[LoRANames.kohya.alpha(key)!] = Tensor.full([], alpha)
        }
        return try Safetensors.encode(tensors, metadata: ["format": "pt"])
    }
}

/// Schemes of names for an adapter's tensors in a file.
/// ComfyUI does not know diffusers' own; both know kohya's.
enum LoRANames: CaseIterable {
    case kohya, diffusers

    private func stem(_ layer: String) -> String {
        self == .kohya ? "lora_unet_" + layer.replacing(".", with: "_") : "unet." + layer
    }

    func a(_ layer: String) -> String { stem(layer) + (self == .kohya ? ".lora_down.weight" : ".lora_A.weight") }
    func b(_ layer: String) -> String { stem(layer) + (self == .kohya ? ".lora_up.weight" : ".lora_B.weight") }
    func alpha(_ layer: String) -> String? { self == .kohya ? stem(layer) + ".alpha" : nil }

    /// The number of layers whose adapter the file holds under these names.
    func matches(_ tensors: [String: Tensor], _ layers: [String]) -> Int { layers.filter { tensors[a($0)] != nil }.count }
}
