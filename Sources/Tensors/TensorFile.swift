import Foundation

/// The named tensors of a file in either of the two formats that models are published in.
package struct TensorFile {
    /// The tensors by name.
    package let tensors: [String: Tensor]
    /// Types of tensors that cannot be used here, by the tensors' names.
    package let unsupported: [String: String]
    /// The metadata of a safetensors file; empty for the other format.
    package let metadata: [String: String]

    /// Reads a `.safetensors` file, or a torch.save file if it has any other extension (see `TorchFile`).
    /// - Throws: `TensorFileError` that names the file.
    package init(contentsOf file: URL) throws {
        if file.pathExtension == "safetensors" {
            let content = try Safetensors(contentsOf: file)
            tensors = content.tensors
            unsupported = content.unsupported
            metadata = content.metadata
        } else {
            tensors = try TorchFile(contentsOf: file).tensors
            unsupported = [:]
            metadata = [:]
        }
    }
}
