import Foundation
import TestSupport
import Testing

@testable import Tensors

/// Pickles that torch.save does not write.
@Suite struct PickleTests {
    /// Returns the tensors of a pickle over one storage: 0, 1, 2 and so on.
    private func tensors(_ bytes: [UInt8], storage size: Int = 6) throws -> [String: Tensor] {
        let storage = Tensor((0..<size).map(Float.init))
        var pickle = Pickle(bytes) { view in
            let tensor = storage.strided(view.sizes, view.strides, offset: view.offset)
            try TensorError.check()
            return tensor
        }
        return try pickle.tensors()
    }

    /// Returns the pickle of a tensor over that storage.
    private func tensor(_ offset: Int, _ sizes: [Int], _ strides: [Int]) -> [UInt8] {
        func number(_ value: Int) -> [UInt8] { Array("J".utf8) + withUnsafeBytes(of: Int32(value).littleEndian, Array.init) }
        func tuple(_ values: [Int]) -> [UInt8] { Array("(".utf8) + values.flatMap(number) + Array("t".utf8) }
        return Array("ctorch._utils\n_rebuild_tensor_v2\n((U\u{7}storagectorch\nFloatStorage\nU\u{1}0tQ".utf8) + number(offset)
            + tuple(sizes)
            + tuple(strides) + Array("tR.".utf8)
    }

    @Test func placesOfTensors() throws {
        #expect(try tensors(tensor(1, [2, 2], [3, 1]))[""]?.array(Float.self) == [1, 2, 4, 5])
        let wrong = [(0, [2, 2], [1]), (0, [2], []), (0, [], [1]), (-1, [2], [1]), (0, [-2], [1]), (0, [2], [-1]), (5, [2], [1])]
        for (offset, sizes, strides) in wrong {
            #expect(throws: (any Error).self, "\(sizes), \(strides)") { try tensors(tensor(offset, sizes, strides)) }
        }
    }

    /// A list and a dictionary that hold themselves; deeply nested lists and tuples; forty lists that each hold the
    /// one before twice.
    @Test func nestingIsLimited() throws {
        let many = 200_000
        let lists = String(repeating: "]", count: many) + String(repeating: "a", count: many - 1) + "."
        let names = (0...40 as ClosedRange<UInt8>).map { Character(Unicode.Scalar($0)) }
        let shared = "]q\0" + zip(names, names.dropFirst()).map { "](h\($0)2eq\($1)" }.joined() + "."
        for text in ["]q\0h\0a.", "}q\0U\u{1}kh\0s.", lists, shared] {
            #expect(throws: Pickle.Problem.self, "\(text.prefix(50))") { try tensors(Array(text.utf8)) }
        }
        #expect(try tensors(Array(")".utf8) + [UInt8](repeating: 0x85, count: many) + Array(".".utf8)).isEmpty)
    }

    /// A damaged pickle gives tensors or an error of the reader's, and no crash; both happen.
    @Test func damagedPickles() throws {
        let file = goldens.appendingPathComponent("torch-file/checkpoint.pt")
        let program = try ZipArchive(Data(contentsOf: file)).content(of: "checkpoint/data.pkl")
        let bytes = Array(program.data[program.range])
        #expect(try tensors(bytes, storage: 4096).count == 20)
        var state = UInt64(1)
        var refused = 0
        for _ in 0..<3000 {
            var damaged = bytes
            for _ in 0..<2 {
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                damaged[Int(state >> 33) % bytes.count] = UInt8(truncatingIfNeeded: state >> 20)
            }
            do { _ = try tensors(damaged, storage: 4096) } catch {
                refused += 1
                #expect(error is Pickle.Problem || error is TensorError, "\(error)")
            }
        }
        #expect(refused > 300 && refused < 2700, "\(refused)")
    }
}
