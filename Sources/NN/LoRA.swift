import Foundation
import Tensors

/// A low-rank adapter of one linear layer: y += (alpha / r) * x A^T B^T (Hu et al. 2021; peft's LoraConfig).
public final class LoRA {
    /// [rank, in], float32.
    public let a: Tensor
    /// [out, rank], float32.
    public let b: Tensor
    /// Whether the layer adds the adapter's output.
    public var isEnabled = true
    private let scale: Double

    /// - Parameters:
    ///   - a: [rank, in].
    ///   - b: [out, rank].
    ///   - alpha: the adapter's output is scaled by alpha / rank.
    init(a: Tensor, b: Tensor, alpha: Double) {
        self.a = a
        self.b = b
        scale = alpha / Double(a.size(0))
    }

    func callAsFunction(_ x: Tensor) -> Tensor {
        let y = x.linear(a.to(x.dtype)).linear(b.to(x.dtype))
        return scale == 1 ? y : y * scale
    }
}

/// All adapters of a model, by the keys of their layers.
public struct LoRAAdapters {
    /// The adapters, by layer key such as `down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q`.
    public let adapters: [String: LoRA]
    /// The layers that carry them.
    private let linears: [Linear]
    /// The common rank.
    public let rank: Int

    /// The attention projections, as in the paper.
    public static let targets = ["to_q", "to_k", "to_v", "to_out.0"]

    /// Fresh adapters on every attention projection: A normal with standard deviation 1 / rank, B zero (peft's "gaussian").
    public init(rank: Int, seed: UInt64, attachingTo linears: [String: Linear], device: Device) {
        let generator = Generator(seed: seed)
        self.init(rank: rank, linears) { _, layer in
            (
                (Tensor.randn([rank, layer.features.in], generator: generator) * (1 / Double(rank))).to(device),
                Tensor.zeros([layer.features.out, rank], device: device)
            )
        }
    }

    /// Adapters of a file that diffusers or this program wrote (keys `unet.<layer>.lora_A.weight`).
    public init(contentsOf file: URL, attachingTo linears: [String: Linear], device: Device) throws {
        let tensors = try Safetensors(contentsOf: file).tensors
        let prefix = "unet."
        let layers = Self.attachable(linears).map(\.key)
        let expected = Set(layers.flatMap { [prefix + $0 + ".lora_A.weight", prefix + $0 + ".lora_B.weight"] })
        let missing = expected.subtracting(tensors.keys).sorted()
        let unused = Set(tensors.keys).subtracting(expected).sorted()
        guard missing.isEmpty, unused.isEmpty, let first = layers.first, let rank = tensors[prefix + first + ".lora_A.weight"]?.size(0) else {
            let example = (missing.first.map { "missing \($0)" } ?? unused.first.map { "unknown \($0)" }) ?? "no attention layers to adapt"
            throw TensorFileError(
                "\(file.path): no LoRA of this model's attention projections (\(example); \(missing.count) missing, \(unused.count) unknown)")
        }
        for (key, layer) in Self.attachable(linears) {
            let shapes = [tensors[prefix + key + ".lora_A.weight"]?.shape, tensors[prefix + key + ".lora_B.weight"]?.shape]
            guard shapes == [[rank, layer.features.in], [layer.features.out, rank]] else {
                throw TensorFileError("\(file.path): the adapter of \(key) has shapes that do not fit this model")
            }
        }
        self.init(rank: rank, linears) { key, _ in
            let pair = ["lora_A", "lora_B"].map { tensors["\(prefix)\(key).\($0).weight"]!.to(.float32).to(device).clone() }
            return (pair[0], pair[1])
        }
    }

    private init(rank: Int, _ linears: [String: Linear], _ make: (String, Linear) -> (Tensor, Tensor)) {
        self.rank = rank
        var adapters: [String: LoRA] = [:]
        let layers = Self.attachable(linears)
        for (key, layer) in layers {
            let (a, b) = make(key, layer)
            let lora = LoRA(a: a, b: b, alpha: Double(rank))
            layer.lora = lora
            adapters[key] = lora
        }
        self.adapters = adapters
        self.linears = layers.map(\.value)
    }

    private static func attachable(_ linears: [String: Linear]) -> [(key: String, value: Linear)] {
        linears.filter { entry in targets.contains { entry.key.hasSuffix("." + $0) } }.sorted { $0.key < $1.key }
    }

    /// The trained tensors with the keys of diffusers' LoRA files, in the order of the keys.
    public var parameters: [(name: String, tensor: Tensor)] {
        adapters.sorted { $0.key < $1.key }.flatMap { [("unet.\($0.key).lora_A.weight", $0.value.a), ("unet.\($0.key).lora_B.weight", $0.value.b)] }
    }

    /// Runs `body` with the base model: all adapters switched off.
    public func disabled<Result>(_ body: () throws -> Result) rethrows -> Result {
        for lora in adapters.values { lora.isEnabled = false }
        defer { for lora in adapters.values { lora.isEnabled = true } }
        return try body()
    }
}

extension LoRAAdapters {
    /// The file that `pipe.load_lora_weights` of diffusers reads.
    public func encoded() throws -> Data {
        try Safetensors.encode(
            Dictionary(uniqueKeysWithValues: parameters.map { ($0.name, $0.tensor.detach()) }), metadata: ["format": "pt"])
    }
}
