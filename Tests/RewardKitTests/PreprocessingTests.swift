import Foundation
import Tensors
import Testing

@testable import RewardKit

/// Against Pillow (Tests/Goldens/rewards/make_preprocessing_goldens.py).
@Suite struct PreprocessingTests {
    struct Case: Decodable {
        let height, width, size: Int
        let resized, first: [Int]
        let resized_checksum: String
        let input_mean, input_corner, long_side_mean, long_side_middle: [Double]
    }

    private struct File: Decodable { let cases: [Case] }

    private static let cases: [Case] = {
        let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("Goldens/rewards/preprocessing.json")
        return (try? JSONDecoder().decode(File.self, from: Data(contentsOf: file)))?.cases ?? []
    }()

    private static func picture(_ height: Int, _ width: Int) -> [UInt8] {
        var pixels: [UInt8] = []
        for y in 0..<height {
            for x in 0..<width {
                for c in 0..<3 {
                    let value: Int = x * x * 7 + y * 31 + x * y * (c + 1) + c * 85
                    pixels.append(UInt8(value / 3 % 256))
                }
            }
        }
        return pixels
    }

    private static func checksum(_ bytes: [UInt8]) -> String {
        let value = bytes.reduce(UInt64(0xcbf2_9ce4_8422_2325)) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
        let digits = String(value, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }

    @Test func goldensAreThere() { #expect(Self.cases.count == 10) }

    /// Every byte is Pillow's.
    @Test(arguments: 0..<10) func resizingIsPillows(index: Int) {
        let golden = Self.cases[index]
        let pixels = Self.picture(golden.height, golden.width)
        let resized = pixels.withUnsafeBytes { bytes in
            BicubicFilter(from: (golden.height, golden.width), to: (golden.resized[0], golden.resized[1])).apply { y in
                UnsafeRawBufferPointer(rebasing: bytes[y * golden.width * 3..<(y + 1) * golden.width * 3])
            }
        }
        #expect(resized.prefix(3).map(Int.init) == golden.first)
        #expect(Self.checksum(resized) == golden.resized_checksum)
    }

    /// Two pictures in padded rows, the second upside down.
    @Test(arguments: 0..<10) func inputIsTorchvisions(index: Int) throws {
        let golden = Self.cases[index]
        let (rowBytes, padded) = (golden.width * 3, golden.width * 3 + 5)
        let rows = Self.picture(golden.height, golden.width)
        var memory = [UInt8](repeating: 77, count: padded * golden.height * 2)
        for y in 0..<golden.height {
            for byte in 0..<rowBytes {
                memory[y * padded + byte] = rows[y * rowBytes + byte]
                memory[(2 * golden.height - 1 - y) * padded + byte] = rows[y * rowBytes + byte]
            }
        }
        let input = memory.withUnsafeBytes {
            Pictures(
                base: $0.baseAddress!, count: 2, height: golden.height, width: golden.width, pictureStride: padded * golden.height,
                rowStride: padded
            ).clipInput(size: golden.size)
        }
        #expect(input.shape == [2, 3, golden.size, golden.size])
        let values = try input.select(0, 0).contiguous().array(Float.self)
        let plane = golden.size * golden.size
        for channel in 0..<3 {
            let mean = values[channel * plane..<(channel + 1) * plane].reduce(0.0) { $0 + Double($1) } / Double(plane)
            #expect(abs(mean - golden.input_mean[channel]) < 1e-5)
            #expect(abs(Double(values[channel * plane]) - golden.input_corner[channel]) < 1e-6)
        }
    }

    /// A long side that fits already.
    @Test(arguments: [(8, 5), (5, 8), (8, 8)]) func longSideInputIsSquare(height: Int, width: Int) throws {
        let input = [UInt8](repeating: 255, count: height * width * 3).withUnsafeBytes {
            Pictures(base: $0.baseAddress!, count: 1, height: height, width: width, pictureStride: 0, rowStride: width * 3)
                .longSideInput(size: 8)
        }
        #expect(input.shape == [1, 3, 8, 8])
        let red = try input.select(1, 0).contiguous().array(Float.self)
        #expect(red.filter { $0 > 0 }.count == height * width)
    }

    /// hpsv2's own preprocessing, which is another.
    @Test(arguments: 0..<10) func longSideInputIsHPSv2s(index: Int) throws {
        let golden = Self.cases[index]
        let size = golden.size
        let input = Self.picture(golden.height, golden.width).withUnsafeBytes {
            Pictures(
                base: $0.baseAddress!, count: 1, height: golden.height, width: golden.width, pictureStride: 0, rowStride: golden.width * 3
            ).longSideInput(size: size)
        }
        #expect(input.shape == [1, 3, size, size])
        let values = try input.array(Float.self)
        for channel in 0..<3 {
            let plane = values[channel * size * size..<(channel + 1) * size * size]
            #expect(abs(plane.reduce(0.0) { $0 + Double($1) } / Double(size * size) - golden.long_side_mean[channel]) < 1e-5)
            #expect(abs(Double(values[(channel * size + size / 2) * size + size / 3]) - golden.long_side_middle[channel]) < 1e-5)
        }
    }
}
