import Foundation
import Support
import Testing

@testable import Images
@testable import Rewards

/// Plugins compiled from `Tests/Plugins` and pictures to score.
enum RewardFixture {
    static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    /// An empty folder that `body` may fill; it is removed afterwards.
    static func withFolder<Result>(_ body: (URL) throws -> Result) throws -> Result {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        return try body(folder)
    }

    /// Compiles `Tests/Plugins/<source>.c` as a plugin author would, and opens it in this process.
    static func library(_ source: String, _ flags: [String] = []) throws -> RewardLibrary {
        try withFolder { folder in try RewardLibrary(path: plugin(source, flags, in: folder)) }
    }

    /// Compiles `Tests/Plugins/<source>.c` into a folder; the library's path.
    static func plugin(_ source: String, _ flags: [String] = [], in folder: URL) throws -> String {
        let output = folder.appendingPathComponent("lib\(source).so").path
        let include = root.appendingPathComponent("include").path
        let file = root.appendingPathComponent("Tests/Plugins/\(source).c").path
        try compile(flags + ["-shared", "-fPIC", "-fvisibility=hidden", "-I", include, "-o", output, file])
        return output
    }

    static func compile(_ arguments: [String]) throws {
        let compiler = Process()
        compiler.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        compiler.arguments = ["cc"] + arguments
        try compiler.run()
        compiler.waitUntilExit()
        try #require(compiler.terminationStatus == 0, "cc \(arguments.joined(separator: " "))")
    }

    /// The built programs.
    static func program(_ name: String) throws -> String {
        URL(fileURLWithPath: try InstalledFiles.worker()).deletingLastPathComponent().appendingPathComponent(name).path
    }

    /// Processes whose command line has a text in it.
    static func processes(_ text: String) throws -> [pid_t] {
        try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap { pid_t($0) }.filter {
            (try? Data(contentsOf: URL(fileURLWithPath: "/proc/\($0)/cmdline")))?.range(of: Data(text.utf8)) != nil
        }
    }

    /// Waits for something to come about, ten seconds at most. Returns whether it has.
    static func wait(for condition: () throws -> Bool) throws -> Bool {
        let patience = Date(timeIntervalSinceNow: 10)
        while try !condition(), Date() < patience { usleep(10_000) }
        return try condition()
    }

    /// Seconds that something takes.
    static func seconds(_ body: () throws -> Void) rethrows -> Double {
        let start = monotonicSeconds()
        try body()
        return monotonicSeconds() - start
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
    static func batch(_ pictures: [[UInt8]], height: Int, width: Int, prompts: [String]? = nil) throws -> RewardBatch {
        let images = try ImageBatch(pixels: Array(pictures.joined()), count: pictures.count, height: height, width: width)
        let ids = pictures.indices.map { UInt64($0 + 1) }
        return try RewardBatch(images: images, prompts: prompts ?? pictures.map { _ in "" }, sampleIDs: ids, seeds: ids)
    }

    /// Picture n is 4 x 4 pixels of value n.
    static func batch(count: Int, prompts: [String]? = nil) throws -> RewardBatch {
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
