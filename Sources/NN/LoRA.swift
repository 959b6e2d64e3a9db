import Foundation
import Tensors

/// A low-rank adapter of one layer: y += (alpha / r) * x A^T B^T (Hu et al. 2021; peft's LoraConfig).
/// That of a convolution is one to r channels, and one of 1x1 from these (kohya's LoCon).
package final class LoRA {
    /// [rank, in]; of a convolution [rank, in, kernel, kernel]; float32.
    package let a: Tensor
    /// [out, rank]; of a convolution [out, rank, 1, 1]; float32.
    package let b: Tensor
    /// Whether the layer adds the adapter's output.
    package var isEnabled = true
    fileprivate let alpha: Double
    /// The factor of the adapter's output: alpha / rank.
    let scale: Double

    /// What the adapter adds to the layer's weight, in its shape; float32.
    package var update: Tensor {
        let (rank, outputs) = (a.size(0), b.size(0))
        let product = b.reshape([outputs, rank]).matmul(a.reshape([rank, a.count / rank]))
        return (product * scale).reshape([outputs] + a.shape.dropFirst())
    }

    /// B as it has to be for the adapter to be as strong with another alpha.
    fileprivate func b(for alpha: Double) -> Tensor {
        let b = b.detach()
        return alpha == self.alpha ? b : b * (self.alpha / alpha)
    }

    init(a: Tensor, b: Tensor, alpha: Double) {
        self.a = a
        self.b = b
        self.alpha = alpha
        scale = alpha / Double(a.size(0))
    }
}

/// A LoRA file and how much it counts (diffusers' adapter weights).
package struct LoRASource: Sendable {
    let file: URL
    let weight: Double

    /// - Parameter text: `FILE`, or `FILE=WEIGHT`. A file that has the whole text as its name is that file.
    package init(_ text: String) {
        let parts = text.split(separator: "=", omittingEmptySubsequences: false)
        if parts.count > 1, let weight = Double(parts.last!), weight.isFinite, !FileManager.default.fileExists(atPath: text) {
            file = URL(fileURLWithPath: parts.dropLast().joined(separator: "="))
            self.weight = weight
        } else {
            file = URL(fileURLWithPath: text)
            weight = 1
        }
    }
}

/// All adapters of a model, by the keys of their layers.
package struct LoRAAdapters {
    /// The adapters, by layer key such as `down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q`.
    package let adapters: [String: LoRA]

    /// The attention projections, as in the paper.
    package static let attention = ["to_q", "to_k", "to_v", "to_out.0"]

    /// Attaches fresh adapters: A normal with standard deviation 1 / rank, B zero (peft's "gaussian").
    /// - Parameters:
    ///   - alpha: nil: the rank, so that the factor is 1.
    ///   - targets: ends of the keys of layers that get an adapter (peft's `target_modules`).
    /// - Throws: `LoRATargetError` for a target that is no layer's.
    package init(
        rank: Int, alpha: Double? = nil, targets: [String] = attention, seed: UInt64, attachingTo layers: [String: any AdaptableLayer],
        device: Device
    ) throws {
        let generator = Generator(seed: seed)
        var adapters: [String: LoRA] = [:]
        for key in try Self.keys(targets, layers) {
            let shapes = layers[key]!.adapterShapes(rank: rank)
            adapters[key] = LoRA(
                a: (Tensor.randn(shapes.a, generator: generator) * (1 / Double(rank))).to(device),
                b: Tensor.zeros(shapes.b, device: device), alpha: alpha ?? Double(rank))
        }
        self.init(adapters, attachingTo: layers)
    }

    /// Attaches the adapters of a LoRA file to the layers that it names: see `LoRAFile`.
    /// - Throws: `TensorFileError` that names the file if it is damaged or does not fit these layers.
    package init(contentsOf file: URL, attachingTo layers: [String: any AdaptableLayer], device: Device) throws {
        let stored = try LoRAFile(contentsOf: file, layers: layers).adapters
        self.init(
            stored.mapValues { adapter in
                func own(_ tensor: Tensor?) -> Tensor { tensor!.to(.float32).to(device).clone() }
                return LoRA(a: own(adapter.a), b: own(adapter.b), alpha: adapter.alpha!)
            }, attachingTo: layers)
    }

    /// Attaches the weighted sum of several files: their ranks add up, layer by layer.
    /// - Throws: as for one file.
    package init(contentsOf sources: [LoRASource], attachingTo layers: [String: any AdaptableLayer], device: Device) throws {
        let files = try sources.map { try Self(contentsOf: $0.file, attachingTo: layers, device: device).adapters }
        let weights = sources.map(\.weight)
        if files.count == 1, weights[0] == 1 {
            self.init(files[0], attachingTo: layers)
            return
        }
        var parts: [String: [LoRA]] = [:]
        for (adapters, weight) in zip(files, weights) {
            for (key, lora) in adapters {
                parts[key, default: []].append(LoRA(a: lora.a, b: lora.b * (lora.scale * weight), alpha: Double(lora.a.size(0))))
            }
        }
        self.init(
            parts.mapValues { parts in
                let a = Tensor.cat(parts.map(\.a), 0)
                return LoRA(a: a, b: Tensor.cat(parts.map(\.b), 1), alpha: Double(a.size(0)))
            }, attachingTo: layers)
    }

    private init(_ adapters: [String: LoRA], attachingTo layers: [String: any AdaptableLayer]) {
        for (key, lora) in adapters { layers[key]?.lora = lora }
        self.adapters = adapters
    }

    /// Returns the keys that are a target or end in one, in order.
    private static func keys(_ targets: [String], _ layers: [String: any AdaptableLayer]) throws -> [String] {
        func fits(_ target: String) -> (String) -> Bool { { $0 == target || $0.hasSuffix("." + target) } }
        if let unknown = targets.first(where: { !layers.keys.contains(where: fits($0)) }) {
            throw LoRATargetError(target: unknown, layers: Array(layers.keys))
        }
        return layers.keys.filter { key in targets.contains { fits($0)(key) } }.sorted()
    }

    /// Fills these adapters, which keep their rank and alpha, with a file's. Those of layers that it lacks stay as they are.
    /// - Throws: `TensorFileError` if the file is damaged or does not fit the layers, `LoRAMismatch` if it does not
    ///   fit these adapters.
    package func fill(from file: URL, of layers: [String: any AdaptableLayer]) throws {
        for (key, stored) in try LoRAFile(contentsOf: file, layers: layers).adapters.sorted(by: { $0.key < $1.key }) {
            let rank = stored.a!.size(0)
            guard let own = adapters[key] else { throw LoRAMismatch.layer(key) }
            guard own.a.size(0) == rank else { throw LoRAMismatch.rank(rank, key) }
            withoutGradients {
                own.a.copy_(stored.a!)
                own.b.copy_(stored.b!.to(.float32) * (stored.alpha! / Double(rank) / own.scale))
            }
        }
    }

    /// Multiplies what the adapters add to the layers' outputs.
    package func scale(by factor: Double) {
        withoutGradients { for lora in adapters.values { lora.b.copy_(lora.b * factor) } }
    }

    /// The trained tensors by layer, in the order of the names.
    package var parameters: [(name: String, tensor: Tensor)] {
        adapters.sorted { $0.key < $1.key }.flatMap { [("\($0.key).lora_A", $0.value.a), ("\($0.key).lora_B", $0.value.b)] }
    }
}

/// An adapter of a file that has no place among those that are trained.
package enum LoRAMismatch: Error {
    /// This layer has none.
    case layer(String)
    /// The one of this layer has another rank than the file's.
    case rank(Int, String)
}

/// A target of adapters that is no layer of the model.
package struct LoRATargetError: Error, CustomStringConvertible {
    let target: String
    let layers: [String]

    package var description: String {
        // `to_out.0` and `net.2` say more than their numbers.
        let ends = Set(
            layers.map { key in
                let parts = key.split(separator: ".")
                return parts.suffix(parts.last?.allSatisfy(\.isNumber) == true ? 2 : 1).joined(separator: ".")
            })
        return "no layer of this model is named '\(target)'; it has \(ends.sorted().joined(separator: ", "))"
    }
}

/// The names of a LoRA file's tensors.
package enum LoRANames: String, CaseIterable, Sendable {
    /// Those of kohya's scripts, which diffusers, ComfyUI and most others load.
    case kohya
    /// Those of diffusers' `save_lora_weights`, with the settings of peft's LoraConfig in the metadata.
    case diffusers
}

extension LoRAAdapters {
    /// Encodes a safetensors file. Under kohya's names each layer has an `alpha`, the same for all: of several, diffusers
    /// takes the most frequent for every layer. Under the names of diffusers alpha is the rank, which is what readers
    /// without the metadata assume. Where an adapter's own is another, its B is scaled.
    /// - Throws: `TensorError` if an operation on tensors failed before.
    package func encoded(_ names: LoRANames = .kohya) throws -> Data {
        var tensors: [String: Tensor] = [:]
        var metadata = ["format": "pt"]
        switch names {
        case .kohya:
            let alpha = Self.mostFrequent(adapters.values.map(\.alpha).filter { $0 != 0 }) ?? 1
            for (key, lora) in adapters {
                let stem = "lora_unet_" + key.replacing(".", with: "_")
                tensors[stem + ".lora_down.weight"] = lora.a.detach()
                tensors[stem + ".lora_up.weight"] = lora.b(for: alpha)
                tensors[stem + ".alpha"] = Tensor.full([], alpha)
            }
        case .diffusers:
            for (key, lora) in adapters {
                tensors["unet.\(key).lora_A.weight"] = lora.a.detach()
                tensors["unet.\(key).lora_B.weight"] = lora.b(for: Double(lora.a.size(0)))
            }
            metadata["lora_adapter_metadata"] = try peftSettings
        }
        return try Safetensors.encode(tensors, metadata: metadata)
    }

    /// The settings of peft's LoraConfig, as JSON: the most frequent rank, and those of other layers.
    private var peftSettings: String {
        get throws {
            let ranks = adapters.mapValues { $0.a.size(0) }
            let usual = Self.mostFrequent(Array(ranks.values)) ?? 1
            let others = ranks.filter { $0.value != usual }
            let settings: [String: Any] = [
                "unet.r": usual, "unet.lora_alpha": usual, "unet.rank_pattern": others, "unet.alpha_pattern": others,
                "unet.target_modules": ranks.keys.sorted(),
            ]
            return String(decoding: try JSONSerialization.data(withJSONObject: settings, options: [.sortedKeys]), as: UTF8.self)
        }
    }

    private static func mostFrequent<Value: Hashable & Comparable>(_ values: [Value]) -> Value? {
        Dictionary(grouping: values) { $0 }.mapValues(\.count).max { ($0.value, $0.key) < ($1.value, $1.key) }?.key
    }
}
