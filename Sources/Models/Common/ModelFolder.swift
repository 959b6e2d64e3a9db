import Foundation
import NN
import Tensors

/// A model that cannot be loaded, in one line that names the file and what to do.
public struct ModelError: Error, CustomStringConvertible {
    /// One line: the culprit and the remedy.
    public let description: String
    /// - Parameter description: one line that names the culprit.
    public init(_ description: String) { self.description = description }
}

/// One component of a pipeline in diffusers layout: a configuration file and weights.
public struct ModelFolder {
    /// The folder, such as `stable-diffusion-v1-5/unet`.
    public let url: URL
    /// The names' variants, the fullest first.
    private static let variants = ["", ".fp32", ".bf16", ".fp16", ".non_ema"]

    /// - Parameter url: an existing folder.
    public init(_ url: URL) throws {
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder), isFolder.boolValue else {
            throw ModelError("\(url.path): no such folder; a model is a folder as diffusers and transformers save it")
        }
        self.url = url
    }

    /// Decodes a JSON file whose keys are in snake case.
    public func decode<T: Decodable>(_ type: T.Type, from name: String = "config.json") throws -> T {
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

    /// The weights as a parameter store: safetensors (whole, sharded, fp16/bf16/fp32 variants) or torch.save's .bin.
    /// - Parameter renaming: from a stored key to the current one.
    public func parameters(dtype: DType, device: Device, renaming: (String) -> String = { $0 }) throws -> ParameterStore {
        let stems = ["diffusion_pytorch_model", "model", "pytorch_model"]
        for stem in stems {
            for variant in Self.variants {
                let file = url.appendingPathComponent("\(stem)\(variant).safetensors")
                if FileManager.default.fileExists(atPath: file.path) {
                    return store(try Safetensors(contentsOf: file).tensors, file, dtype, device, renaming)
                }
                let index = url.appendingPathComponent("\(stem).safetensors.index\(variant).json")
                if FileManager.default.fileExists(atPath: index.path) {
                    return store(try shards(index), index, dtype, device, renaming)
                }
            }
        }
        for stem in stems {
            for variant in Self.variants {
                let file = url.appendingPathComponent("\(stem)\(variant).bin")
                if FileManager.default.fileExists(atPath: file.path) {
                    return store(try TorchFile(contentsOf: file).tensors, file, dtype, device, renaming)
                }
            }
        }
        throw ModelError(
            "\(url.path): no weights (diffusion_pytorch_model.safetensors, model.safetensors or .bin); download the folder again")
    }

    private func store(
        _ tensors: [String: Tensor], _ file: URL, _ dtype: DType, _ device: Device, _ renaming: (String) -> String
    ) -> ParameterStore {
        let renamed = Dictionary(tensors.map { (renaming($0.key), $0.value) }, uniquingKeysWith: { first, _ in first })
        return ParameterStore(checkpoint: renamed, origin: file.path, dtype: dtype, device: device)
    }

    private func shards(_ index: URL) throws -> [String: Tensor] {
        struct Index: Decodable { let weight_map: [String: String] }
        guard let data = FileManager.default.contents(atPath: index.path), let map = try? JSONDecoder().decode(Index.self, from: data)
        else {
            throw ModelError("\(index.path): not a safetensors index (weight_map)")
        }
        var tensors: [String: Tensor] = [:]
        for name in Set(map.weight_map.values).sorted() {
            let shard = url.appendingPathComponent(name)
            guard FileManager.default.fileExists(atPath: shard.path) else {
                throw ModelError("\(shard.path): missing, but \(index.lastPathComponent) names it; download the folder again")
            }
            tensors.merge(try Safetensors(contentsOf: shard).tensors) { first, _ in first }
        }
        return tensors
    }
}

/// A configuration value that published files give as one number or as a list.
public enum OneOrMany: Decodable, Sendable {
    case one(Int)
    case many([Int])

    /// Decodes a number or a list of numbers.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if let value = try? container.decode(Int.self) { self = .one(value) } else { self = .many(try container.decode([Int].self)) }
        let valid =
            switch self {
            case .one(let value): value > 0
            case .many(let values): !values.isEmpty && values.allSatisfy { $0 > 0 }
            }
        guard valid else { throw DecodingError.dataCorruptedError(in: container, debugDescription: "must be above zero") }
    }

    /// The value for block `index`.
    public subscript(index: Int) -> Int {
        switch self {
        case .one(let value): value
        case .many(let values): values[min(index, values.count - 1)]
        }
    }
}
