import Foundation
import TestSupport
import Testing

@testable import Tensors

/// Files of torch.save (Tests/Goldens/torch-file).
@Suite struct TorchFileTests {
    private static let folder = goldens.appendingPathComponent("torch-file")

    private func expectState(_ tensors: [String: Tensor], prefix: String = "") throws {
        let golden = try Safetensors(contentsOf: Self.folder.appendingPathComponent("state_dict.safetensors")).tensors
        for (name, expected) in golden {
            let found = try #require(tensors[prefix + name], "\(name)")
            #expect(found.shape == expected.shape && found.dtype == expected.dtype, "\(name)")
            #expect(try found.to(.float64).array(Double.self) == expected.to(.float64).array(Double.self), "\(name)")
        }
    }

    /// An OrderedDict with metadata, as `state_dict()` gives it, and pickled by another protocol.
    @Test func stateDict() throws {
        let tensors = try TorchFile(contentsOf: Self.folder.appendingPathComponent("state_dict.pth")).tensors
        try expectState(tensors)
        #expect(tensors.count == 18)
    }

    /// A training checkpoint: objects that are not tensors are skipped, and no code of theirs runs.
    @Test func checkpoint() throws {
        let tensors = try TorchFile(contentsOf: Self.folder.appendingPathComponent("checkpoint.pt")).tensors
        try expectState(tensors, prefix: "state_dict.")
        #expect(try tensors["optimizer.state.0.step"]?.item() == 7)
        #expect(tensors["5"]?.shape == [1])
        #expect(tensors.count == 20)
    }

    @Test func oldFormat() throws {
        let error = #expect(throws: TensorFileError.self) { try TorchFile(contentsOf: Self.folder.appendingPathComponent("old.pth")) }
        #expect(error?.description.contains("before PyTorch 1.6") == true)
    }

    /// A changed bit of a tensor is found by the checksum, if the file has one.
    @Test func checksums() throws {
        let folder = try TemporaryFolder()
        let file = folder.url.appendingPathComponent("damaged.pth")
        var data = try Data(contentsOf: Self.folder.appendingPathComponent("state_dict.pth"))
        let range = try ZipArchive(data).content(of: "state_dict/data/0").range
        data[range.lowerBound + 2] ^= 0x40
        try data.write(to: file)
        let error = #expect(throws: TensorFileError.self) { try TorchFile(contentsOf: file) }
        #expect(error?.description.hasSuffix("(state_dict/data/0 has another checksum); download it again") == true, "\(error!)")
        let directory = try #require(data.range(of: Data("PK\u{1}\u{2}".utf8)))
        var entry = directory.lowerBound
        while data[entry..<entry + 4] == Data("PK\u{1}\u{2}".utf8) {
            data.replaceSubrange(entry + 16..<entry + 20, with: [0, 0, 0, 0])
            entry += 46 + Int(data[entry + 28]) + Int(data[entry + 30]) + Int(data[entry + 32])
        }
        try data.write(to: file)
        #expect(try TorchFile(contentsOf: file).tensors.count == 18)
    }

    /// The file as `zip -9` packs it again, with a scalar of four bytes; torch.load reads it, too.
    @Test func compressed() throws {
        let file = Self.folder.appendingPathComponent("compressed.pth")
        try expectState(TorchFile(contentsOf: file).tensors)
        let data = try Data(contentsOf: file)
        let directory = try #require(data.range(of: Data("PK\u{1}\u{2}".utf8))).lowerBound
        // The pickle is the first member: behind its header and name come its packed bytes.
        let packed = 30 + Int(data[26])
        try withFolder { folder in
            let damaged = folder.appendingPathComponent("damaged.pth")
            // Bits of the packed bytes, and sizes that they cannot have.
            for (place, mask) in [(packed, UInt8(1)), (packed + 40, 4), (directory + 24, 1), (directory + 27, 0x7F), (directory + 20, 1)] {
                var bytes = data
                bytes[place] ^= mask
                try bytes.write(to: damaged)
                let error = #expect(throws: TensorFileError.self, "byte \(place)") { try TorchFile(contentsOf: damaged) }
                #expect(error?.description.contains("download it again") == true, "\(error?.description ?? "")")
            }
        }
    }

    /// As a file of more than 4 GB has it, and with a comment behind
    /// the directory, in which the end's signature stands too.
    @Test func wideDirectory() throws {
        let data = try Data(contentsOf: Self.folder.appendingPathComponent("state_dict.pth"))
        let plain = try ZipArchive(data)
        let start = try #require(data.range(of: Data("PK\u{1}\u{2}".utf8))).lowerBound
        let end = try #require(data.range(of: Data("PK\u{6}\u{6}".utf8))).lowerBound
        func bytes(_ value: Int, _ count: Int) -> Data { Data((0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }) }
        var wide = data[..<start]
        var entry = start
        while entry < end {
            let (nameEnd, size) = (entry + 46 + Int(data[entry + 28]), data[entry + 24..<entry + 28])
            var fixed = Data(data[entry..<nameEnd])
            for place in [20, 24, 42] { fixed.replaceSubrange(place..<place + 4, with: bytes(0xFFFF_FFFF, 4)) }
            fixed.replaceSubrange(30..<32, with: bytes(33, 2))
            // A field of another kind; then both sizes and the place, of 8 bytes each.
            for part in [fixed, bytes(7, 2), bytes(1, 2), bytes(9, 1), bytes(1, 2), bytes(24, 2)] { wide += part }
            for part in [size, size, data[entry + 42..<entry + 46]] { wide += part + bytes(0, 4) }
            let lengths: Int = Int(data[entry + 30]) + Int(data[entry + 32])
            entry = nameEnd + lengths
        }
        let wideEnd = wide.count
        wide += data[end...]
        wide.replaceSubrange(wideEnd + 48..<wideEnd + 56, with: bytes(start, 8))
        wide.replaceSubrange(wide.count - 34..<wide.count - 26, with: bytes(wideEnd, 8))
        wide.replaceSubrange(wide.count - 2..<wide.count, with: bytes(30, 2))
        wide += Data("PK\u{5}\u{6}".utf8) + Data(count: 26)
        let archive = try ZipArchive(wide)
        #expect(Set(archive.names) == Set(plain.names))
        for name in plain.names { #expect(try archive.content(of: name).range == plain.content(of: name).range, "\(name)") }
    }

    /// Reads files that are cut short or damaged: each gives
    /// tensors or an error that names the file, and does not crash.
    @Test func damagedFiles() throws {
        let data = try Data(contentsOf: Self.folder.appendingPathComponent("checkpoint.pt"))
        let folder = try TemporaryFolder()
        let file = folder.url.appendingPathComponent("damaged.pt")
        for length in stride(from: 0, to: data.count, by: 97) {
            try data.prefix(length).write(to: file)
            let error = #expect(throws: TensorFileError.self) { try TorchFile(contentsOf: file) }
            #expect(length < 4 || error?.description == "\(file.path): cut short; download it again")
        }
        var state = UInt64(1)
        for _ in 0..<300 {
            var damaged = data
            for _ in 0..<4 {
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                damaged[Int(state >> 33) % data.count] = UInt8(truncatingIfNeeded: state >> 20)
            }
            try damaged.write(to: file)
            do { _ = try TorchFile(contentsOf: file) } catch {
                #expect(error is TensorFileError || error is TensorError, "\(error)")
            }
        }
    }
}
