import Foundation
import Rewards

/// A C library whose functions are called as a reward, without a wrapper:
/// `c:libfoo.so,score=double sharpness(const uint8_t *pixels, int width, int height)`.
final class CLibrary: RewardFactory, @unchecked Sendable {
    let description: RewardDescription
    /// The result of `dlopen`; the library is never closed.
    let handle: UnsafeMutableRawPointer
    /// Held while its functions are called.
    let lock: NSLock

    /// - Parameter path: a file, or a name that the system's loader finds, such as `libz.so.1`.
    /// - Throws: `RewardError` if it cannot be loaded.
    init(path: String) throws {
        guard let handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE) else {
            throw RewardError("library \(path) cannot be loaded: \(dlerror().map { String(cString: $0) } ?? "no reason given")")
        }
        self.handle = handle
        lock = LibraryLocks.lock(of: handle)
        let file = URL(fileURLWithPath: path).lastPathComponent
        let stem = file.split(separator: ".").first.map(String.init) ?? file
        let name = stem.hasPrefix("lib") && stem.count > 3 ? String(stem.dropFirst(3)) : stem
        description = RewardDescription(
            name: RewardDescription.name(ofFile: name), version: Self.version(of: file),
            detail: "functions of a C library, called once for each image", license: "the library's", source: path,
            objectives: [RewardObjective("score", detail: "the function's result")],
            options: [
                .init(key: "score", defaultValue: "", detail: "prototypes of the functions to call, separated by ;"),
                .init(key: "setup", defaultValue: "", detail: "the same, called once before"),
            ],
            takesOtherOptions: false, devices: ["cpu"], threadMode: .serialized, isDeterministic: true, largestBatch: 0)
    }

    /// Returns `1.2` for libfoo.so.1.2, and `0` without a version.
    private static func version(of file: String) -> String {
        file.range(of: ".so.").map { String(file[$0.upperBound...]) } ?? "0"
    }

    /// Reads the prototypes and calls the setup.
    /// - Throws: `RewardError` that says which prototype is wrong, or which call failed.
    func make(options: [String: String], device: String, timeout: Double?) throws -> any Reward {
        try description.validate(options: options, device: device)
        return try CFunctionReward(self, score: options["score"] ?? "", setup: options["setup"] ?? "")
    }
}
