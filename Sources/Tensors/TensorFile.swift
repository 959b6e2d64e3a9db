import Foundation

/// Files of named tensors in either of the two formats that models are published in.
public enum TensorFile {
    /// Reads a `.safetensors` file, or a torch.save file of any other name (see `TorchFile`).
    /// - Throws: `TensorFileError` that names the file.
    public static func read(_ file: URL) throws -> [String: Tensor] {
        try file.pathExtension == "safetensors" ? Safetensors(contentsOf: file).tensors : TorchFile(contentsOf: file).tensors
    }
}
