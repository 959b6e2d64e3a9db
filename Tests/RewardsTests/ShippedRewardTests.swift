import Foundation
import TestSupport
import Testing

@testable import Images
@testable import Rewards

@Suite struct JPEGRewardTests {
    struct Case: Decodable, Sendable {
        let height: Int
        let width: Int
        let options: [String: String]
        let sizes: [Int]
    }

    /// Pillow's sizes: see `Tests/Goldens/jpeg_sizes.py`.
    static let cases: [Case] = {
        let file = repository.appendingPathComponent("Tests/Goldens/jpeg_sizes.json")
        return (try? JSONDecoder().decode([Case].self, from: Data(contentsOf: file))) ?? []
    }()

    @Test func goldensAreThere() { #expect(Self.cases.count == 40) }

    @Test(arguments: cases) func sizesEqualPillows(golden: Case) throws {
        let pictures = golden.sizes.indices.map { index in
            RewardFixture.picture(height: golden.height, width: golden.width) { y, x, channel in
                ((x * (3 + index) + y * (5 + channel)) ^ ((x * y) >> 2)) & 255
            }
        }
        let library = try RewardLibrary(path: RewardSpecification("jpeg_compressibility").locate().path)
        let batch = try RewardFixture.batch(pictures, height: golden.height, width: golden.width)
        let scores = try RewardPlugin(library, options: golden.options).score(batch).values
        for (index, size) in golden.sizes.enumerated() {
            #expect(scores[2 * index] == -Float(size) / 1000)
            #expect(scores[2 * index + 1] == Float(size) / 1000)
        }
    }

    @Test(arguments: [
        ("quality=0", "quality=0 is not a number from 1 to 100"), ("quality=ten", "quality=ten"), ("quality=94.5", "whole number"),
        ("subsampling=4:1:1", "4:2:0, 4:2:2, 4:4:4"), ("qualty=90", "it knows quality, subsampling"),
    ])
    func wrongSettingsAreErrors(setting: String, part: String) {
        let text = errorMessage { try RewardEvaluator(plugins: ["jpeg_compressibility,\(setting)"]) }
        #expect(text.contains("jpeg_compressibility") && text.contains(part), "\(text)")
    }

    @Test func libjpegsErrorsReachTheHost() throws {
        let width = 65_501  // beyond JPEG's 65,500
        let batch = try RewardFixture.batch([[UInt8](repeating: 0, count: width * 3)], height: 1, width: width)
        let text = errorMessage { try RewardEvaluator(plugins: ["jpeg_compressibility"]).score(batch) }
        #expect(text.contains("sample 1") && text.contains("Maximum supported image dimension is 65500 pixels"), "\(text)")
    }
}

@Suite struct WarmthRewardTests {
    /// A shaded square on a plain background, the way tiny-sd's pictures look. Values as in models/tiny-sd/train_tiny_sd.py.
    private static func picture(_ thing: [Double], on background: [Double]) -> [UInt8] {
        RewardFixture.picture(height: 32, width: 32) { y, x, channel in
            let inside = (6..<26).contains(y) && (10..<22).contains(x)
            return Int(inside ? thing[channel] * (0.35 + 0.65 * Double(y) / 32) : background[channel])
        }
    }

    private static let palette: [(name: String, rgb: [Double])] = [
        ("red", [220, 40, 40]), ("orange", [245, 130, 30]), ("yellow", [240, 210, 40]), ("green", [40, 170, 60]),
        ("blue", [40, 80, 220]), ("purple", [140, 50, 180]), ("white", [245, 245, 245]), ("black", [0, 0, 0]),
    ]

    @Test(arguments: 0..<8) func tellsTheThingsColour(index: Int) throws {
        let (name, thing) = Self.palette[index]
        let pictures = Self.palette.filter { $0.name != name }.map { Self.picture(thing, on: $0.rgb) }
        let report = try RewardEvaluator(plugins: ["warmth"]).score(RewardFixture.batch(pictures, height: 32, width: 32))
        let expected = ["red", "orange", "yellow"].contains(name) ? name : "other"
        for objective in ["red", "orange", "yellow", "other"] {
            #expect(report.objectives["warmth/\(objective)"] == pictures.map { _ in objective == expected ? 1 : 0 }, "\(name)")
        }
    }

    @Test func isTheClippedMeanOfRedMinusBlue() throws {
        // The centre of an 8 x 8 picture is rows and columns 2 to 5; what is outside must not count.
        let picture = RewardFixture.picture(height: 8, width: 8) { y, x, channel in
            (2..<6).contains(y) && (2..<6).contains(x) ? [51, 7, 0][channel] : [0, 0, 255][channel]
        }
        let batch = try RewardFixture.batch([picture], height: 8, width: 8)
        for (setting, expected) in [("", 0.4), (",saturation=1", 0.2), (",saturation=0.1", 1)] as [(String, Float)] {
            #expect(abs(try RewardEvaluator(plugins: ["warmth\(setting)"]).score(batch).reward[0] - expected) < 1e-6)
        }
    }

    @Test(arguments: [(1, 1), (1, 7), (7, 1), (2, 2)]) func takesAnySize(height: Int, width: Int) throws {
        let picture = RewardFixture.picture(height: height, width: width) { _, _, channel in [51, 7, 0][channel] }
        let batch = try RewardFixture.batch([picture], height: height, width: width)
        let evaluator = try RewardEvaluator(plugins: ["warmth"])
        #expect(abs(try evaluator.score(batch).reward[0] - 0.4) < 1e-6)
        #expect(try evaluator.selfCheck(images: batch.images) == [])
    }
}
