import Foundation
import Tensors
import TestSupport
import Testing

@testable import Models

/// Against torchvision, transformers and hpsv2 (Tests/Goldens/rewards/make_preprocessing_goldens.py):
/// checksums over every pixel.
@Suite struct PreprocessingTests {
    private struct Case: Decodable {
        let height, width, size: Int
        let resized: [Int]
        let resized_checksum, cropped_checksum, transformers_checksum: String
        let clip_sums, hps_sums: [Double]
    }

    private struct File: Decodable { let cases: [Case] }

    private static let cases: [Case] = {
        let file = goldens.appendingPathComponent("rewards/preprocessing.json")
        return (try? JSONDecoder().decode(File.self, from: Data(contentsOf: file)))?.cases ?? []
    }()

    private static func image(_ height: Int, _ width: Int) -> [UInt8] {
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

    @Test func goldensAreThere() { #expect(Self.cases.count == 11) }

    /// Every byte equals Pillow's.
    @Test(arguments: 0..<11) func resizingIsPillows(index: Int) {
        let golden = Self.cases[index]
        let pixels = Self.image(golden.height, golden.width)
        let resized = pixels.withUnsafeBytes { bytes in
            BicubicFilter(from: (golden.height, golden.width), to: (golden.resized[0], golden.resized[1])).apply { y in
                UnsafeRawBufferPointer(rebasing: bytes[y * golden.width * 3..<(y + 1) * golden.width * 3])
            }
        }
        #expect(Self.checksum(resized) == golden.resized_checksum)
    }

    /// Every byte of the crop is torchvision's, or transformers', before it is normalised. Two images in
    /// padded rows, the second upside down.
    @Test(arguments: 0..<11, [FloatingPointRoundingRule.toNearestOrEven, .down])
    func croppedPixels(index: Int, cropOffset: FloatingPointRoundingRule) throws {
        let golden = Self.cases[index]
        let (rowBytes, padded) = (golden.width * 3, golden.width * 3 + 5)
        let rows = Self.image(golden.height, golden.width)
        var memory = [UInt8](repeating: 77, count: padded * golden.height * 2)
        for y in 0..<golden.height {
            for byte in 0..<rowBytes {
                memory[y * padded + byte] = rows[y * rowBytes + byte]
                memory[(2 * golden.height - 1 - y) * padded + byte] = rows[y * rowBytes + byte]
            }
        }
        let input = memory.withUnsafeBytes {
            BorrowedImages(
                base: $0.baseAddress!, count: 2, height: golden.height, width: golden.width, imageStride: padded * golden.height,
                rowStride: padded
            ).clipInput(size: golden.size, cropOffset: cropOffset)
        }
        #expect(input.shape == [2, 3, golden.size, golden.size])
        let values = try input.select(0, 0).contiguous().array(Float.self)
        let plane = golden.size * golden.size
        let (mean, deviation): ([Float], [Float]) = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
        let bytes = (0..<plane * 3).map { place -> UInt8 in
            let channel = place % 3
            return UInt8(((values[channel * plane + place / 3] * deviation[channel] + mean[channel]) * 255).rounded())
        }
        let isTorchvision = cropOffset == .toNearestOrEven
        #expect(Self.checksum(bytes) == (isTorchvision ? golden.cropped_checksum : golden.transformers_checksum))
        if isTorchvision { Self.expect(Self.sums(values), golden.clip_sums) }
    }

    /// An image whose long side fits already.
    @Test(arguments: [(8, 5), (5, 8), (8, 8)]) func longSideInputIsSquare(height: Int, width: Int) throws {
        let input = [UInt8](repeating: 255, count: height * width * 3).withUnsafeBytes {
            BorrowedImages(base: $0.baseAddress!, count: 1, height: height, width: width, imageStride: 0, rowStride: width * 3)
                .longSideInput(size: 8)
        }
        #expect(input.shape == [1, 3, 8, 8])
        let red = try input.select(1, 0).contiguous().array(Float.self)
        #expect(red.filter { $0 > 0 }.count == height * width)
    }

    /// hpsv2's own preprocessing.
    @Test(arguments: 0..<11) func longSideInputIsHPSv2s(index: Int) throws {
        let golden = Self.cases[index]
        let input = Self.image(golden.height, golden.width).withUnsafeBytes {
            BorrowedImages(
                base: $0.baseAddress!, count: 1, height: golden.height, width: golden.width, imageStride: 0, rowStride: golden.width * 3
            ).longSideInput(size: golden.size)
        }
        #expect(input.shape == [1, 3, golden.size, golden.size])
        let values = try input.array(Float.self)
        Self.expect(Self.sums(values), golden.hps_sums)
        // A difference of 1/255 in any pixel would show in the sums.
        for place in stride(from: 0, to: values.count, by: 997) {
            let change = Self.weights(place).map { abs($0) / 255 / 0.28 }.max()!
            #expect(change > Self.tolerance)
        }
    }

    private static let tolerance = 1e-3

    private static func expect(_ sums: [Double], _ golden: [Double]) {
        #expect(golden.count == 8)
        for (sum, expected) in zip(sums, golden) { #expect(abs(sum - expected) < tolerance, "\(sums), \(golden)") }
    }

    private static func sums(_ values: [Float]) -> [Double] {
        values.enumerated().reduce(into: [Double](repeating: 0, count: 8)) { sums, value in
            for (index, weight) in weights(value.offset).enumerated() { sums[index] += weight * Double(value.element) }
        }
    }

    /// Returns the weights of `weighted_sums`.
    private static func weights(_ place: Int) -> [Double] {
        (0..<8).map { index in
            let noise = sin(12.9898 * Double(place) + 78.233 * Double(index)) * 43758.5453
            return noise - noise.rounded(.down) - 0.5
        }
    }
}
