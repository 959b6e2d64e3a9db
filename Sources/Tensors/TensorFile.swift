import Foundation

/// Reading of named tensors from either of the two formats that models are published in.
package enum TensorFile {
    /// Reads a `.safetensors` file, or a torch.save file if it has any other extension (see `TorchFile`).
    /// - Throws: `TensorFileError` that names the file.
    package static func read(_ file: URL) throws -> [String: Tensor] {
        try file.pathExtension == "safetensors" ? Safetensors(contentsOf: file).tensors : TorchFile(contentsOf: file).tensors
    }
}
