import Foundation
import NN
import Tensors

/// A folder with one component of a pipeline in diffusers layout: a configuration file and weights.
package struct ModelFolder {
    /// The folder, such as `stable-diffusion-v1-5/unet`.
    package let url: URL
    /// The variants in names of weights, those of the highest precision first.
    private static let variants = ["", ".fp32", ".bf16", ".fp16", ".non_ema"]

    /// Names an existing folder.
    /// - Throws: `ModelError` if there is no such folder.
    package init(_ url: URL) throws {
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder), isFolder.boolValue else {
            throw ModelError("\(url.path): no such folder; a model is a folder as diffusers and transformers save it")
        }
        self.url = url
    }

    /// Decodes a JSON file whose keys are in snake case.
    /// - Throws: `ModelError` that names the file and the key.
    package func decode<T: Decodable>(_ type: T.Type, from name: String = "config.json") throws -> T {
        let file = url.appendingPathComponent(name)
        guard let data = FileManager.default.contents(atPath: file.path) else {
            throw ModelError("\(file.path): missing or unreadable; is this a complete folder in diffusers layout?")
        }
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        do {
            return try decoder.decode(type, from: data)
        } catch let DecodingError.typeMismatch(_, context) {
            throw ModelError("\(file.path): bad value at '\(context.codingPath.map(\.stringValue).joined(separator: "."))'")
        } catch let DecodingError.dataCorrupted(context) where !context.codingPath.isEmpty {
            throw ModelError("\(file.path): bad value at '\(context.codingPath.map(\.stringValue).joined(separator: "."))'")
        } catch let DecodingError.valueNotFound(_, context) {
            throw ModelError("\(file.path): no value at '\(context.codingPath.map(\.stringValue).joined(separator: "."))'")
        } catch let DecodingError.keyNotFound(key, _) {
            throw ModelError("\(file.path): '\(key.stringValue)' is missing")
        } catch {
            throw ModelError("\(file.path): not valid JSON")
        }
    }

    /// Reads the weights: safetensors (whole, sharded, fp16/bf16/fp32 variants) or torch.save's .bin.
    /// - Parameter renaming: maps a stored key to the current one.
    /// - Throws: `ModelError` if files are missing, `TensorFileError` if one is damaged.
    package func parameters(dtype: DType, device: Device, renaming: (String) -> String = { $0 }) throws -> ParameterStore {
        let file = try weights()
        let tensors = try tensorFiles(file).reduce(into: [:]) { $0.merge(try TensorFile(contentsOf: $1).tensors) { first, _ in first } }
        let renamed = Dictionary(tensors.map { (renaming($0.key), $0.value) }, uniquingKeysWith: { first, _ in first })
        return ParameterStore(checkpoint: renamed, origin: file.path, dtype: dtype, device: device)
    }

    /// Lists the files that determine the model: `config.json` and those with tensors.
    /// - Throws: `ModelError` if weights are missing.
    package func files() throws -> [URL] { try [url.appendingPathComponent("config.json")] + tensorFiles(weights()) }

    /// Finds the file of the weights, or the index of its parts.
    private func weights() throws -> URL {
        let stems = ["diffusion_pytorch_model", "model", "pytorch_model"]
        func names(_ name: (_ stem: String, _ variant: String) -> [String]) -> [String] {
            stems.flatMap { stem in Self.variants.flatMap { name(stem, $0) } }
        }
        let names = names { ["\($0)\($1).safetensors", "\($0).safetensors.index\($1).json"] } + names { ["\($0)\($1).bin"] }
        let files = names.map(url.appendingPathComponent)
        guard let file = files.first(where: { FileManager.default.fileExists(atPath: $0.path) }) else {
            throw ModelError(
                "\(url.path): no weights (diffusion_pytorch_model.safetensors, model.safetensors or .bin); "
                    + "download the folder again")
        }
        return file
    }

    /// Lists the files of tensors: the file of the weights itself, or those that an index names.
    private func tensorFiles(_ file: URL) throws -> [URL] {
        guard file.pathExtension == "json" else { return [file] }
        struct Index: Decodable { let weight_map: [String: String] }
        guard let data = FileManager.default.contents(atPath: file.path), let map = try? JSONDecoder().decode(Index.self, from: data)
        else {
            throw ModelError("\(file.path): not a safetensors index (weight_map)")
        }
        return try Set(map.weight_map.values).sorted().map { name in
            let shard = url.appendingPathComponent(name)
            guard FileManager.default.fileExists(atPath: shard.path) else {
                throw ModelError("\(shard.path): missing, but \(file.lastPathComponent) names it; download the folder again")
            }
            return shard
        }
    }
}
