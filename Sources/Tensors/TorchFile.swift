import Foundation

/// A torch.save file (.bin, .pt, .pth) of PyTorch 1.6 or newer, read without executing any code of the file.
///
/// Tensors are on the CPU, wherever they were saved from. libtorch's own unpickler is not used because it
/// cannot read `OrderedDict`, which is what `state_dict()` returns; its reader of archives is not used
/// because it ignores checksums.
package struct TorchFile {
    /// The tensors by name. Nested dictionaries and lists give dotted names.
    package let tensors: [String: Tensor]

    /// Maps the file and compares the checksum of every storage. Tensors are read when they are used.
    /// - Throws: `TensorFileError` that names the file; `TensorError` if memory runs out.
    package init(contentsOf file: URL) throws {
        guard let data = try? Data(contentsOf: file, options: .alwaysMapped) else {
            throw TensorFileError("\(file.path): missing or unreadable")
        }
        guard data.starts(with: ZipArchive.signature) else {
            if let kind = FileKind.foreign(data) { throw TensorFileError("\(file.path): \(kind)") }
            if data.count > 8, data[8] == UInt8(ascii: "{") {
                throw TensorFileError("\(file.path): a safetensors file under another name; rename it to end in .safetensors")
            }
            throw TensorFileError(
                "\(file.path): not a torch.save zip file; re-save files from before PyTorch 1.6 with a newer version")
        }
        do {
            let archive = try ZipArchive(data)
            guard let program = archive.names.first(where: { $0.hasSuffix("/data.pkl") }) else {
                throw ZipArchive.Problem.foreign("a zip archive, but not of torch.save: it has no data.pkl")
            }
            if archive.names.contains(where: { $0.hasSuffix("/constants.pkl") }) {
                throw ZipArchive.Problem.foreign("a TorchScript archive (torch.jit.save); save its state_dict() by torch.save")
            }
            let folder = program.dropLast("data.pkl".count)
            var storages: [String: Tensor] = [:]
            func storage(_ key: String, _ dtype: DType) throws -> Tensor {
                let (bytes, range) = try archive.content(of: "\(folder)data/\(key)")
                let count = range.count / dtype.size
                return count == 0
                    ? Tensor.zeros([0], dtype: dtype) : Tensor(mapping: bytes, offset: range.lowerBound, shape: [count], dtype: dtype)
            }
            let (bytes, range) = try archive.content(of: program)
            var pickle = Pickle(Array(bytes[range])) { view in
                if storages[view.key] == nil { storages[view.key] = try storage(view.key, view.dtype) }
                let tensor = storages[view.key]!.strided(view.sizes, view.strides, offset: view.offset)
                try TensorError.check()
                return tensor
            }
            tensors = try pickle.tensors()
        } catch let error as TensorError where error.isOutOfMemory {
            throw error
        } catch ZipArchive.Problem.foreign(let kind) {
            throw TensorFileError("\(file.path): \(kind)")
        } catch let problem as ZipArchive.Problem {
            throw TensorFileError("\(file.path): \(problem); download it again")
        } catch {
            let reason = "\(error)".split(separator: "\n").first.map { String($0.prefix(160)) } ?? ""
            throw TensorFileError("\(file.path): not a torch.save file of tensors, or damaged (\(reason))")
        }
        if tensors.isEmpty { throw TensorFileError("\(file.path): holds no tensors") }
    }
}
