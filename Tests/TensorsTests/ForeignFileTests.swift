import Foundation
import TestSupport
import Testing

@testable import Tensors

/// Files that are not what their names say.
@Suite struct ForeignFileTests {
    /// Returns the messages of both readers for a file's content.
    private func messages(_ content: Data) throws -> [String] {
        try withFolder { folder in
            try ["weights.safetensors", "weights.bin"].map { name in
                let file = folder.appendingPathComponent(name)
                try content.write(to: file)
                let error = #expect(throws: TensorFileError.self) { try TensorFile(contentsOf: file) }
                return String(error!.description.dropFirst(file.path.count + 2))
            }
        }
    }

    @Test(
        arguments: [
            (Array("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3438354725\n".utf8), "a git-LFS pointer"),
            (Array("<!DOCTYPE html>\n<html><head><title>404".utf8), "an HTML page"), (Array("\n <HTML>".utf8), "an HTML page"),
            ([], "empty"),
            (Array(#"{"error":"Repository not found"}"#.utf8), "JSON text"), ([0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0], "compressed by gzip"),
            ([UInt8](repeating: 65, count: 257) + Array("ustar\u{0}00".utf8), "a tar archive"),
            ([0x89] + Array("HDF\r\n\u{1A}\n".utf8), "an HDF5 file"),
        ] as [([UInt8], String)])
    func kinds(content: [UInt8], kind: String) throws {
        for message in try messages(Data(content)) { #expect(message.hasPrefix(kind), "\(message)") }
    }

    /// Each format under the other's name.
    @Test func otherNames() throws {
        let torch = try Data(contentsOf: goldens.appendingPathComponent("torch-file/state_dict.pth"))
        let safetensors = try Safetensors.encode(["a": Tensor.zeros([2])])
        try withFolder { folder in
            for (data, name, kind) in [
                (torch, "a.safetensors", "a zip archive, perhaps of torch.save"),
                (safetensors, "a.pt", "a safetensors file under another name"),
            ] {
                let file = folder.appendingPathComponent(name)
                try data.write(to: file)
                let error = #expect(throws: TensorFileError.self) { try TensorFile(contentsOf: file) }
                #expect(error?.description.hasPrefix("\(file.path): \(kind)") == true, "\(error!)")
            }
        }
    }

    /// Archives of other programs, told by the names and methods in their directories.
    @Test func otherArchives() throws {
        let original = try Data(contentsOf: goldens.appendingPathComponent("torch-file/state_dict.pth"))
        func replaced(_ name: String, _ other: String) -> Data {
            var data = original
            while let range = data.range(of: Data(name.utf8)) { data.replaceSubrange(range, with: Data(other.utf8)) }
            return data
        }
        var packed = original
        let entry = try #require(packed.range(of: Data("PK\u{1}\u{2}".utf8))).lowerBound
        packed[entry + 10] = 14
        try withFolder { folder in
            let file = folder.appendingPathComponent("a.pt")
            for (data, kind) in [
                (packed, "state_dict/data.pkl is packed in a way that is not supported"),
                (replaced("/data.pkl", "/data.npy"), "a zip archive, but not of torch.save"),
                // A name of another length would move what follows; this one stands in the same place.
                (replaced("state_dict/byteorder", "s/code/constants.pkl"), "a TorchScript archive"),
            ] {
                try data.write(to: file)
                let error = #expect(throws: TensorFileError.self) { try TorchFile(contentsOf: file) }
                #expect(error?.description.hasPrefix("\(file.path): \(kind)") == true, "\(error!)")
                #expect(error?.description.contains("download") == false)
            }
        }
    }

    /// The layout of a safetensors file, as the safetensors library demands it.
    @Test(arguments: [
        (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, 8, ""),
        (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"I16","shape":[2],"data_offsets":[4,8]}}"#, 8, ""),
        (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 4, "overlap"),
        (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, 8, "gaps"),
        (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 9, "5 bytes follow its tensors"), ("{}", 1, "1 bytes follow"),
        (#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#, 4, "wrong size"),
        (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 3, "beyond the end"),
        (#"{"__metadata__":{"alpha":8}}"#, 0, "__metadata__ is not text"),
    ])
    func layout(header: String, bytes: Int, problem: String) throws {
        try withFolder { folder in
            let file = folder.appendingPathComponent("a.safetensors")
            var data = withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { Data($0) }
            data += Data(header.utf8) + Data(count: bytes)
            try data.write(to: file)
            if problem.isEmpty {
                #expect(try Safetensors(contentsOf: file).tensors["a"]?.shape == [1])
            } else {
                let error = #expect(throws: TensorFileError.self) { try Safetensors(contentsOf: file) }
                #expect(error?.description.contains(problem) == true, "\(error!)")
            }
        }
    }
}
