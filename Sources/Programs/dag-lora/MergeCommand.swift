import ArgumentParser
import Commands
import DAGCore
import Foundation
import Models
import NN
import Support
import Tensors

struct MergeCommand: Command {
    static let configuration = CommandConfiguration(
        commandName: "merge", abstract: "Copies a model with LoRAs added to its U-Net's weights.",
        discussion: """
            Every weight keeps its type. The U-Net's weights become one file, unet/diffusion_pytorch_model.safetensors; all other \
            files of the folder are copied as they are.
            """)

    @OptionGroup var options: LoRAOptions
    @Option(help: ArgumentHelp("The folder to write; it must not exist yet.", valueName: "dir")) var output: String

    func execute() throws {
        // The folder above it exists; links on the way to it may lead into the model.
        let named = URL(fileURLWithPath: output).standardizedFileURL
        let target = named.deletingLastPathComponent().resolvingSymlinksInPath().appendingPathComponent(named.lastPathComponent)
        guard !FileManager.default.fileExists(atPath: target.path) else {
            throw ConfigurationError("\(setting: "output") \(output): exists already; choose another name")
        }
        let source = URL(fileURLWithPath: options.model).standardizedFileURL
        guard !(target.path + "/").hasPrefix(source.resolvingSymlinksInPath().path + "/") else {
            throw ConfigurationError("\(setting: "output") \(output): lies in the model's folder; choose a place outside it")
        }
        let (parts, adapters) = try options.load()
        let weights = try Safetensors.encode(Self.merged(adapters, into: parts.unet), metadata: ["format": "pt"])

        // The folder appears whole or not at all.
        let files = FileManager.default
        let unfinished = target.deletingLastPathComponent().appendingPathComponent(".\(target.lastPathComponent).\(getpid()).tmp")
        defer { try? files.removeItem(at: unfinished) }
        do {
            // In the folder itself or one below it, whatever that is a link to.
            let unet = parts.unet.url.standardizedFileURL
            try Self.copy(source, to: unfinished, without: unet)
            let place = unet.path == source.path ? unfinished : unfinished.appendingPathComponent(unet.lastPathComponent)
            let file = place.appendingPathComponent("diffusion_pytorch_model.safetensors")
            try OutputFolder.writeAtomically(weights, to: file)
            try files.moveItem(at: unfinished, to: target)
        } catch let error as OutputError {
            throw error
        } catch {
            throw OutputError("\(setting: "output") \(output): cannot be written (\(error.localizedDescription))")
        }
        say(output)
    }

    /// The weights of a U-Net's folder, with those that adapters change in float32 changed.
    /// - Throws: `TensorFileError` if a changed weight does not fit its type.
    static func merged(_ adapters: LoRAAdapters, into folder: ModelFolder) throws -> [String: Tensor] {
        var (tensors, unsupported) = try folder.tensors()
        if let (name, type) = unsupported.min(by: { $0.key < $1.key }) {
            throw TensorFileError("\(folder.url.path): '\(name)' has the type \(type), which is not supported")
        }
        let stored = Dictionary(tensors.keys.map { (UNet.currentKey($0), $0) }, uniquingKeysWith: { first, _ in first })
        for (layer, lora) in adapters.adapters {
            guard let name = stored[layer + ".weight"], let weight = tensors[name] else {
                throw TensorFileError("\(folder.url.path): there is no weight of \(layer)")
            }
            let merged = (weight.to(.float32) + lora.update.reshape(weight.shape)).to(weight.dtype)
            guard try merged.isFinite() else {
                throw TensorFileError("\(folder.url.path): with the LoRA '\(name)' is beyond the numbers of its type; lower its weight")
            }
            tensors[name] = merged
        }
        return tensors
    }

    /// Copies a folder without its U-Net's weights. Links become what they lead to: those of the Hugging Face cache
    /// lead out of the folder.
    private static func copy(_ source: URL, to target: URL, without unet: URL) throws {
        let files = FileManager.default
        try files.createDirectory(at: target, withIntermediateDirectories: false)
        for name in try files.contentsOfDirectory(atPath: source.resolvingSymlinksInPath().path).sorted() {
            let item = source.appendingPathComponent(name).resolvingSymlinksInPath()
            var isFolder: ObjCBool = false
            guard files.fileExists(atPath: item.path, isDirectory: &isFolder) else { continue }
            if isFolder.boolValue {
                try copy(source.appendingPathComponent(name), to: target.appendingPathComponent(name), without: unet)
            } else if source.path != unet.path || !isWeights(name) {
                try files.copyItem(at: item, to: target.appendingPathComponent(name))
            }
        }
    }

    private static func isWeights(_ name: String) -> Bool {
        name.contains(".index.") || [".safetensors", ".bin", ".msgpack", ".h5", ".ckpt", ".onnx"].contains { name.hasSuffix($0) }
    }
}
