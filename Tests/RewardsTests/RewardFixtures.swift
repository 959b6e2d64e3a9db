import Foundation
import Support
import TestSupport
import Testing

@testable import Images
@testable import Rewards

/// Plugins compiled from `Tests/Plugins` and pictures to score.
enum RewardFixture {
    /// Compiles `Tests/Plugins/<source>.c` as a plugin author would, and opens it in this process.
    static func library(_ source: String, _ flags: [String] = []) throws -> RewardLibrary {
        try withFolder { folder in try RewardLibrary(path: plugin(source, flags, in: folder)) }
    }

    /// Processes whose command line has a text in it.
    static func processes(_ text: String) throws -> [pid_t] {
        try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap { pid_t($0) }.filter {
            (try? Data(contentsOf: URL(fileURLWithPath: "/proc/\($0)/cmdline")))?.range(of: Data(text.utf8)) != nil
        }
    }

    /// A picture `[height, width, 3]` from a function of row, column and channel.
    static func picture(height: Int, width: Int, _ value: (Int, Int, Int) -> Int) -> [UInt8] {
        var pixels: [UInt8] = []
        for y in 0..<height {
            for x in 0..<width {
                for channel in 0..<3 { pixels.append(UInt8(value(y, x, channel))) }
            }
        }
        return pixels
    }

    /// Samples of the given pictures; ids start at 1, prompts are empty if there are none.
    static func batch(_ pictures: [[UInt8]], height: Int, width: Int, prompts: [Prompt]? = nil) throws -> RewardBatch {
        let images = try ImageBatch(pixels: Array(pictures.joined()), count: pictures.count, height: height, width: width)
        let ids = pictures.indices.map { UInt64($0 + 1) }
        return try RewardBatch(images: images, prompts: prompts ?? pictures.map { _ in "" }, sampleIDs: ids, seeds: ids)
    }

    /// Picture n is 4 x 4 pixels of value n.
    static func batch(count: Int, prompts: [Prompt]? = nil) throws -> RewardBatch {
        try batch((0..<count).map { n in picture(height: 4, width: 4) { _, _, _ in n } }, height: 4, width: 4, prompts: prompts)
    }
}

/// The message of the error that `body` throws; fails the test if it throws none.
func errorMessage(_ body: () throws -> some Any) -> String {
    do {
        _ = try body()
        Issue.record("nothing was thrown")
        return ""
    } catch {
        return "\(error)"
    }
}
