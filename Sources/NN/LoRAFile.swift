import Foundation
import Tensors

/// The adapters in a LoRA file, under the names of diffusers, old or new, or of kohya's scripts.
///
/// Everything that sets an adapter's strength is read or refused: ranks, `alpha` tensors, and the settings
/// of peft that diffusers keeps in the file's metadata. Layers may differ in both; diffusers 0.42 itself
/// takes the most frequent alpha of a file with kohya's names for all of its attention layers.
struct LoRAFile {
    struct Adapter {
        var a, b: Tensor?
        var alpha: Double?
    }

    /// The adapters by layer. Both tensors and alpha are there.
    private(set) var adapters: [String: Adapter] = [:]
    private let file: URL

    /// - Parameter place: a file, or a folder with `pytorch_lora_weights.safetensors`.
    /// - Throws: `TensorFileError` that names the file and what it is or lacks.
    init(contentsOf place: URL, layers: [String: any AdaptableLayer]) throws {
        file = try Self.file(place)
        let content = try TensorFile(contentsOf: file)
        if let (name, type) = content.unsupported.min(by: { $0.key < $1.key }) {
            throw problem("'\(name)' has the type \(type), which is not supported")
        }
        let keys = Dictionary(layers.keys.map { ($0.replacing(".", with: "_"), $0) }, uniquingKeysWith: { first, _ in first })
        for (name, tensor) in content.tensors.sorted(by: { $0.key < $1.key }) {
            guard let (layer, part) = Self.split(name, keys), layers[layer] != nil else { throw unknown(name) }
            guard try tensor.isFinite() else { throw problem("'\(name)' holds numbers that are not finite") }
            switch part {
            case .a: adapters[layer, default: Adapter()].a = tensor
            case .b: adapters[layer, default: Adapter()].b = tensor
            case .alpha:
                guard tensor.count == 1 else { throw problem("'\(name)' is not one number") }
                adapters[layer, default: Adapter()].alpha = try tensor.to(.float32).item()
            }
        }
        if adapters.isEmpty { throw problem("holds no tensors") }
        let settings = try PEFTSettings(content.metadata, file)
        let haveAlpha = adapters.values.filter { $0.alpha != nil }.count
        guard haveAlpha == 0 || haveAlpha == adapters.count else {
            throw problem("\(haveAlpha) of \(adapters.count) layers have an alpha, so the strength of the others is not known")
        }
        for (layer, adapter) in adapters {
            let rank = adapter.a?.shape.first ?? 0
            let expected = layers[layer]!.adapterShapes(rank: rank)
            func fits(_ tensor: Tensor?, _ shape: [Int]) -> Bool {
                tensor.map { Self.linearShape($0.shape) == Self.linearShape(shape) } ?? false
            }
            guard rank > 0, fits(adapter.a, expected.a), fits(adapter.b, expected.b) else {
                let shapes = [adapter.a, adapter.b].compactMap { $0?.shape }
                throw problem("the adapter of \(layer) has shapes \(shapes) instead of \(expected.a) and \(expected.b)")
            }
            adapters[layer]?.a = adapter.a!.reshape(expected.a)
            adapters[layer]?.b = adapter.b!.reshape(expected.b)
            let alpha = try settings?.alpha(layer, rank: rank, file)
            if let alpha, let stored = adapter.alpha, alpha != stored {
                throw problem("the adapter of \(layer) has alpha \(stored), but the metadata say \(alpha); remove one of them")
            }
            adapters[layer]?.alpha = alpha ?? adapter.alpha ?? Double(rank)
        }
    }

    private static func file(_ place: URL) throws -> URL {
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: place.path, isDirectory: &isFolder) else {
            throw TensorFileError("\(place.path): no such file")
        }
        guard isFolder.boolValue else { return place }
        let file = place.appendingPathComponent("pytorch_lora_weights.safetensors")
        guard FileManager.default.fileExists(atPath: file.path) else {
            throw TensorFileError("\(place.path): a folder without \(file.lastPathComponent); name the file itself")
        }
        return file
    }

    /// A convolution of 1x1 is a linear layer, and files have either shape for both.
    private static func linearShape(_ shape: [Int]) -> [Int] { shape.dropFirst(2).allSatisfy { $0 == 1 } ? Array(shape.prefix(2)) : shape }

    private func problem(_ what: String) -> TensorFileError { TensorFileError("\(file.path): \(what)") }

    // MARK: Names

    private enum Part { case a, b, alpha }

    private static let suffixes: [(String, Part)] = [
        (".lora_A.weight", .a), (".lora_B.weight", .b), (".lora.down.weight", .a), (".lora.up.weight", .b),
        (".lora_down.weight", .a), (".lora_up.weight", .b), (".alpha", .alpha),
    ]

    /// Splits a tensor's name into the key of a layer and the part of its adapter.
    /// - Parameter keys: the keys of layers by their keys with underscores, as kohya's scripts write them.
    private static func split(_ name: String, _ keys: [String: String]) -> (layer: String, part: Part)? {
        for (suffix, part) in suffixes {
            if name.hasPrefix("lora_unet_"), name.hasSuffix(suffix) {
                return keys[String(name.dropFirst("lora_unet_".count).dropLast(suffix.count))].map { ($0, part) }
            }
            // diffusers' attention processors: `attn1.processor.to_q_lora.down.weight`.
            let key = (name.hasPrefix("unet.") ? String(name.dropFirst("unet.".count)) : name)
                .replacing(".processor.to_out_lora.", with: ".to_out.0.lora.")
                .replacing(/\.processor\.to_([qkv])_lora\./) { ".to_\($0.output.1).lora." }
            if key.hasSuffix(suffix) { return (String(key.dropLast(suffix.count)), part) }
        }
        return nil
    }

    /// Parts of names of files that are not supported, and what they are.
    private static let foreign = [
        ("base_model.model.", "peft's own names; save it by diffusers' save_lora_weights"),
        (".lora_A.default.", "peft's own names; save it by diffusers' save_lora_weights"),
        ("hada_", "LoHa"), ("lokr_", "LoKr"), ("oft_", "OFT"), ("dora_scale", "DoRA"), ("lora_magnitude_vector", "DoRA"),
        ("lora_mid", "LoCon with a Tucker decomposition"), ("lora_te", "adapters of the text encoder, too"),
        ("text_encoder", "adapters of the text encoder, too"), ("input_blocks", "the names of the original Stable Diffusion or of SDXL"),
        ("output_blocks", "the names of the original Stable Diffusion or of SDXL"),
        ("middle_block", "the names of the original Stable Diffusion or of SDXL"), ("transformer.", "adapters of a diffusion transformer"),
        ("double_blocks", "adapters of a diffusion transformer"), (".diff", "differences of whole weights"),
    ]

    private func unknown(_ name: String) -> TensorFileError {
        if let (_, what) = Self.foreign.first(where: { name.contains($0.0) }) { return problem("\(what) ('\(name)'): not supported") }
        return problem("'\(name)' belongs to no layer of this model that can be adapted")
    }
}

/// The settings of peft's LoraConfig for the U-Net, which diffusers keeps in a file's metadata.
private struct PEFTSettings {
    private let values: [String: Any]

    /// - Returns: nil if the metadata have no such settings.
    init?(_ metadata: [String: String], _ file: URL) throws {
        guard let text = metadata["lora_adapter_metadata"] else { return nil }
        guard let all = try? JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any] else {
            throw TensorFileError("\(file.path): its lora_adapter_metadata is not valid JSON")
        }
        values = Dictionary(
            uniqueKeysWithValues: all.compactMap { $0.key.hasPrefix("unet.") ? (String($0.key.dropFirst("unet.".count)), $0.value) : nil })
        if values.isEmpty { return nil }
        for key in ["use_dora", "lora_bias"] where values[key] as? Bool == true {
            throw TensorFileError("\(file.path): its lora_adapter_metadata set \(key), which is not supported")
        }
    }

    /// Returns the alpha that gives the layer's adapter its strength.
    /// - Throws: `TensorFileError` if the settings have another rank, or two values for the layer.
    func alpha(_ layer: String, rank: Int, _ file: URL) throws -> Double {
        // 8 is peft's default of both.
        let expected = try value("r", "rank_pattern", layer, file) ?? 8
        let alpha = try value("lora_alpha", "alpha_pattern", layer, file) ?? 8
        guard expected == Double(rank), alpha.isFinite else {
            throw TensorFileError("\(file.path): the adapter of \(layer) has rank \(rank), but lora_adapter_metadata say \(expected)")
        }
        // rsLoRA divides by the root of the rank.
        return values["use_rslora"] as? Bool == true ? alpha * Double(rank).squareRoot() : alpha
    }

    private func value(_ key: String, _ pattern: String, _ layer: String, _ file: URL) throws -> Double? {
        let patterns = values[pattern] as? [String: Double] ?? [:]
        // The time of a search grows exponentially with the repetitions.
        if let slow = patterns.keys.first(where: { $0.count { "*+?{".contains($0) } > 2 }) {
            throw TensorFileError(
                "\(file.path): '\(slow.prefix(60))' in \(pattern) has more than two repetitions, which is not supported; name layers")
        }
        // As in peft: a pattern is a regular expression for the end of the layer's key.
        let found = Set(
            patterns.filter { entry in
                (try? Regex("(.*\\.)?(\(entry.key))").wholeMatch(in: layer)) != nil
            }.values)
        guard found.count < 2 else { throw TensorFileError("\(file.path): several values of \(pattern) fit \(layer)") }
        return found.first ?? values[key] as? Double
    }
}
