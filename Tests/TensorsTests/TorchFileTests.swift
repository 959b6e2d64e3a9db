import Foundation
import Testing

@testable import Tensors

/// Files of torch.save (Tests/Goldens/torch-file).
@Suite struct TorchFileTests {
    private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("Goldens/torch-file")

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

    /// A training checkpoint: what is no tensor is read over, and nothing of it is run.
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

    /// Wherever a file ends or is damaged, there is an error or tensors, and no crash.
    @Test func damagedFiles() throws {
        let data = try Data(contentsOf: Self.folder.appendingPathComponent("checkpoint.pt"))
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("damaged-\(UUID()).pt")
        defer { try? FileManager.default.removeItem(at: file) }
        for length in stride(from: 0, to: data.count, by: 97) {
            try data.prefix(length).write(to: file)
            #expect(throws: TensorFileError.self) { try TorchFile(contentsOf: file) }
        }
        var state = UInt64(1)
        for _ in 0..<300 {
            var damaged = data
            for _ in 0..<4 {
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                damaged[Int(state >> 33) % data.count] = UInt8(truncatingIfNeeded: state >> 20)
            }
            try damaged.write(to: file)
            _ = try? TorchFile(contentsOf: file)
        }
    }
}
