import CTorch
import Foundation

/// A torch.save file (.bin, .pt, .pth) of PyTorch 1.6 or newer. No code of the file is executed; tensors come to the CPU wherever they were.
///
/// libtorch's own unpickler would do, but for `OrderedDict`, which is what `state_dict()` gives: it reads it as nothing.
public struct TorchFile {
    /// The tensors by name; nested dictionaries and lists give dotted names.
    public let tensors: [String: Tensor]

    /// Reads the whole file.
    public init(contentsOf file: URL) throws {
        guard FileManager.default.isReadableFile(atPath: file.path) else { throw TensorFileError("\(file.path): missing or unreadable") }
        guard let archive = ct_archive_open(file.path) else {
            try? TensorError.check()
            throw TensorFileError(
                "\(file.path): no torch.save file, or damaged; one from before PyTorch 1.6 has to be loaded and saved again by a newer one")
        }
        defer { ct_archive_close(archive) }
        var storages: [String: Tensor] = [:]
        func record(_ name: String, _ dtype: DType) throws -> Tensor {
            let tensor = Tensor(owning: ct_archive_record(archive, name, dtype.rawValue))
            try TensorError.check()
            return tensor
        }
        do {
            let bytes = try record("data.pkl", .uint8).array(UInt8.self)
            var pickle = Pickle(bytes) { view in
                if storages[view.key] == nil { storages[view.key] = try record("data/\(view.key)", view.dtype) }
                let tensor = storages[view.key]!.strided(view.sizes, view.strides, offset: view.offset)
                try TensorError.check()
                return tensor
            }
            tensors = try pickle.tensors()
        } catch let error as TensorError where error.isOutOfMemory {
            throw error
        } catch {
            let reason = "\(error)".split(separator: "\n").first.map { String($0.prefix(160)) } ?? ""
            throw TensorFileError("\(file.path): no torch.save file of tensors, or damaged (\(reason))")
        }
        if tensors.isEmpty { throw TensorFileError("\(file.path): holds no tensors") }
    }
}
