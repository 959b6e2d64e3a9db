import CTorch
import Foundation

/// A torch.save file (.bin, .pt, .pth), read by libtorch's own unpickler, which executes no code.
public struct TorchFile {
    /// The tensors by name; nested dictionaries give dotted names.
    public let tensors: [String: Tensor]

    /// Reads the whole file.
    public init(contentsOf file: URL) throws {
        final class Found { var tensors: [String: Tensor] = [:] }
        guard FileManager.default.isReadableFile(atPath: file.path) else { throw TensorFileError("\(file.path): missing or unreadable") }
        let found = Found()
        _ = ct_unpickle(
            file.path,
            { name, tensor, context in
                Unmanaged<Found>.fromOpaque(context).takeUnretainedValue().tensors[String(cString: name)] = Tensor(owning: tensor)
            }, Unmanaged.passUnretained(found).toOpaque())
        do {
            try TensorError.check()
        } catch {
            throw TensorFileError("\(file.path): no torch.save file of tensors, or damaged (\("\(error)".prefix(160)))")
        }
        tensors = withExtendedLifetime(found) { found.tensors }
        if tensors.isEmpty { throw TensorFileError("\(file.path): holds no tensors") }
    }
}
