import Foundation
import NN
import Tensors

/// A folder with one component of a pipeline in diffusers layout: a configuration file and weights.
package struct ModelFolder {
    /// The folder, such as `stable-diffusion-v1-5/unet`.
    package let url: URL
    /// The variants in names of weights, in the order in which they are taken.
    private static let variants = ["", ".fp32", ".bf16", ".fp16", ".non_ema"]

    /// Names an existing folder.
    /// - Throws: `ModelError` that says what is there instead.
    package init(_ url: URL) throws {
        var isFolder: ObjCBool = false
        let exists = FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder)
        if exists, !isFolder.boolValue {
            throw ModelError(
                "\(url.path): a file; a model is a folder as diffusers and transformers save it. A single-file checkpoint is converted "
                    + "by diffusers: StableDiffusionPipeline.from_single_file(file).save_pretrained(folder)")
        }
        guard exists else {
            throw ModelError(
                "\(url.path): no such folder; a model is a folder as diffusers and transformers save it. "
                    + "One of the Hugging Face hub has to be downloaded first: hf download NAME --local-dir FOLDER")
        }
        self.url = url
        let snapshots = url.appendingPathComponent("snapshots")
        if let names = try? FileManager.default.contentsOfDirectory(atPath: snapshots.path) {
            throw ModelError(
                "\(url.path): a folder of the Hugging Face cache; name a snapshot in it"
                    + (names.sorted().first.map { ", such as \(snapshots.appendingPathComponent($0).path)" } ?? ""))
        }
    }

    /// The names of what lies in the folder, for messages.
    package var content: String {
        let names = ((try? FileManager.default.contentsOfDirectory(atPath: url.path)) ?? []).sorted()
        return names.isEmpty ? "nothing" : names.prefix(12).joined(separator: ", ") + (names.count > 12 ? " and more" : "")
    }

    /// Reads a JSON file with an object, as Python's json module would.
    /// - Throws: `ModelError` that names the file.
    package func object(_ name: String = "config.json") throws -> [String: JSONValue] {
        guard let object = JSONValue.object(in: try data(name)) else {
            throw ModelError("\(url.appendingPathComponent(name).path): not valid JSON, or not an object")
        }
        return object
    }

    private func data(_ name: String) throws -> Data {
        let file = url.appendingPathComponent(name)
        guard let data = FileManager.default.contents(atPath: file.path) else {
            throw ModelError("\(file.path): missing or unreadable; is this a complete folder in diffusers layout?")
        }
        if let kind = FileKind.foreign(data, expectsText: true) { throw ModelError("\(file.path): \(kind)") }
        return data
    }

    /// Decodes a JSON file whose keys are in snake case.
    /// - Throws: `ModelError` that names the file and the key.
    package func decode<T: Decodable>(_ type: T.Type, from name: String = "config.json") throws -> T {
        try decode(type, from: name, ReferenceDefaults([:]))
    }

    /// Decodes a JSON file whose keys are in snake case; keys that it lacks have the reference's defaults.
    /// - Throws: `ModelError` that names the file and the key.
    func decode<T: Decodable>(_ type: T.Type, from name: String = "config.json", _ reference: ReferenceDefaults) throws -> T {
        let file = url.appendingPathComponent(name)
        let found = try object(name)
        try reference.validate(file.path, found)
        let absent = reference.implemented.filter { found[$0.key] == nil }.map { "\"\($0.key)\": \($0.value)" }
        // The file's own text is decoded, not a copy of it, so that its numbers are not rounded twice.
        var text = JSONValue.standard(try data(name))
        if !absent.isEmpty, let brace = text.firstIndex(of: UInt8(ascii: "{")) {
            let head = absent.joined(separator: ", ") + (found.isEmpty ? "" : ", ")
            text.insert(contentsOf: Data(head.utf8), at: brace + 1)
        }
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        // Keys as they stand in the file: `vocab_size`, not `vocabSize`.
        func place(_ path: [any CodingKey]) -> String {
            path.map { $0.stringValue.replacing(/[A-Z]/) { "_" + $0.output.lowercased() } }.joined(separator: ".")
        }
        do {
            return try decoder.decode(type, from: text)
        } catch let DecodingError.typeMismatch(_, context) {
            throw ModelError("\(file.path): bad value at '\(place(context.codingPath))'")
        } catch let DecodingError.dataCorrupted(context) {
            throw ModelError("\(file.path): bad value at '\(place(context.codingPath))'")
        } catch let DecodingError.valueNotFound(_, context) {
            throw ModelError("\(file.path): '\(place(context.codingPath))' is null, which is not supported")
        } catch let DecodingError.keyNotFound(key, context) {
            throw ModelError("\(file.path): '\(place(context.codingPath + [key]))' is missing")
        }
    }

    /// Reads the weights: safetensors or torch.save's .bin, whole or in parts.
    ///
    /// Of several files, that of the first variant is taken ("", fp32, bf16, fp16, non_ema), of two of one
    /// variant the safetensors.
    /// - Parameter renaming: maps a stored key to the current one.
    /// - Throws: `ModelError` if files are missing, `TensorFileError` if one is damaged.
    package func parameters(dtype: DType, device: Device, renaming: (String) -> String = { $0 }) throws -> ParameterStore {
        let (tensors, unsupported) = try tensors()
        func renamed<Value>(_ values: [String: Value]) -> [String: Value] {
            Dictionary(values.map { (renaming($0.key), $0.value) }, uniquingKeysWith: { first, _ in first })
        }
        return ParameterStore(
            checkpoint: renamed(tensors), origin: try weights().path, dtype: dtype, device: device, unsupported: renamed(unsupported))
    }

    /// Reads the weights under the names and in the types that they are stored in.
    /// - Returns: the tensors, and the types of those that cannot be used here, by their names.
    /// - Throws: as `parameters`.
    package func tensors() throws -> (tensors: [String: Tensor], unsupported: [String: String]) {
        var tensors: [String: Tensor] = [:]
        var unsupported: [String: String] = [:]
        for part in try tensorFiles(weights()) {
            let content = try TensorFile(contentsOf: part)
            tensors.merge(content.tensors) { first, _ in first }
            unsupported.merge(content.unsupported) { first, _ in first }
        }
        return (tensors, unsupported)
    }

    /// Lists the files that determine the model: `config.json` and those with tensors.
    /// - Throws: `ModelError` if weights are missing.
    package func files() throws -> [URL] { try [url.appendingPathComponent("config.json")] + tensorFiles(weights()) }

    /// Says which file of weights is read, if there are several; nil otherwise.
    package var choice: String? {
        let files = candidates
        return files.count < 2
            ? nil : "\(url.path): weights are read from \(files[0]), not from \(files.dropFirst().joined(separator: ", "))"
    }

    /// The files of weights that are there, or indices of their parts, in the order in which they are taken.
    private var candidates: [String] {
        Self.variants.flatMap { variant in
            ["safetensors", "bin"].flatMap { type in
                ["diffusion_pytorch_model", "model", "pytorch_model"].flatMap { stem in
                    ["\(stem)\(variant).\(type)", "\(stem).\(type).index\(variant).json"]
                }
            }
        }.filter(isFile)
    }

    /// Finds the file of the weights, or the index of its parts.
    private func weights() throws -> URL {
        guard let name = candidates.first else {
            throw ModelError(
                "\(url.path): no weights (diffusion_pytorch_model.safetensors, model.safetensors or .bin); "
                    + "it holds \(content); download the folder again")
        }
        return url.appendingPathComponent(name)
    }

    private func isFile(_ name: String) -> Bool {
        var isFolder: ObjCBool = false
        return FileManager.default.fileExists(atPath: url.appendingPathComponent(name).path, isDirectory: &isFolder) && !isFolder.boolValue
    }

    /// Lists the files of tensors: the file of the weights itself, or those that an index names.
    private func tensorFiles(_ file: URL) throws -> [URL] {
        guard file.pathExtension == "json" else { return [file] }
        guard case .object(let map)? = try object(file.lastPathComponent)["weight_map"] else {
            throw ModelError("\(file.path): not an index of parts (weight_map)")
        }
        return try Set(map.values.map { $0.text ?? "" }).sorted().map { name in
            guard !name.isEmpty, !name.contains("/"), !name.hasPrefix(".") else {
                throw ModelError("\(file.path): '\(name)' in weight_map is not the name of a file beside it")
            }
            guard isFile(name) else {
                throw ModelError(
                    "\(url.appendingPathComponent(name).path): missing, but \(file.lastPathComponent) names it; download the folder again")
            }
            return url.appendingPathComponent(name)
        }
    }
}
