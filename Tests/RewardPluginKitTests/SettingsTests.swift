import Foundation
import TestSupport
import Testing

@testable import RewardPluginKit

/// The kit's settings, fingerprint and cache of texts.
@Suite struct SettingsTests {
    /// Each text is computed once, and a full cache is emptied.
    @Test func textCache() {
        var cache = TextCache<Int>(limit: 3)
        var asked: [[String]] = []
        func values(_ texts: [String]) -> [Int] {
            cache.values(texts) { new in
                asked.append(new)
                return new.map(\.count)
            }
        }
        #expect(values(["a", "bb", "a"]) == [1, 2, 1])
        #expect(values(["bb", "ccc", "dddd", "a"]) == [2, 3, 4, 1])
        #expect(values(["a", "bb", "eeeee"]) == [1, 2, 5])
        #expect(values(["a"]) == [1])
        #expect(asked == [["a", "bb"], ["ccc", "dddd"], ["a", "bb", "eeeee"]])
    }

    /// The fingerprint depends on every byte of a file, and a missing file is an error.
    @Test func fingerprint() throws {
        let folder = try TemporaryFolder()
        let file = folder.url.appendingPathComponent("weights")
        let settings = try Self.settings(["weights": file.path])
        var data = Data(repeating: 7, count: (20 << 20) + 5)
        try data.write(to: file)
        _ = try settings.file("weights", "")
        var fingerprints = try [settings.fingerprint(), settings.fingerprint()]
        #expect(Set(fingerprints).count == 1)
        for changed in [[0], [7], [15], [7, 15], [5_000_001], [data.count - 1], [data.count - 6]] {
            for place in changed { data[place] ^= 0x80 }
            try data.write(to: file)
            fingerprints.append(try settings.fingerprint())
            for place in changed { data[place] ^= 0x80 }
        }
        try data.dropLast().write(to: file)
        fingerprints.append(try settings.fingerprint())
        #expect(Set(fingerprints).count == fingerprints.count - 1)
        try FileManager.default.removeItem(at: file)
        let error = #expect(throws: RewardPluginError.self) { try settings.fingerprint() }
        #expect(error?.description.hasPrefix("\(file.path): cannot be read") == true)
    }

    private static func settings(_ values: [String: String]) throws -> NeuralSettings {
        let usual = ["precision": "fp32", "batch_size": "1", "threads": "0"]
        return try NeuralSettings(usual.merging(values) { $1 }, device: "cpu") { _ in }
    }

    /// The fingerprint depends on a file's bytes and not on its place, nor on settings that change no score.
    @Test func fingerprintIsOfWhatCounts() throws {
        let folder = try TemporaryFolder()
        let names = ["one.pt", "two.pt"]
        for name in names { try Data("weights".utf8).write(to: folder.url.appendingPathComponent(name)) }
        func fingerprint(_ values: [String: String]) throws -> String {
            let settings = try Self.settings(
                ["weights": folder.url.appendingPathComponent(names[0]).path, "vocabulary": ""].merging(values) { $1 })
            let weights = try settings.file("weights", "")
            _ = try settings.file("vocabulary", orElse: names[1], beside: weights, "")
            return try settings.fingerprint()
        }
        let usual = try fingerprint([:])
        let hash = try #require(usual.split(separator: " ").last?.split(separator: "=").last)
        #expect(usual == "precision=float32 vocabulary=\(hash) weights=\(hash)")
        let other = folder.url.appendingPathComponent(names[1]).path
        for same in [["batch_size": "7"], ["threads": "2"], ["weights": other], ["vocabulary": other]] {
            #expect(try fingerprint(same) == usual)
        }
        #expect(try fingerprint(["precision": "bf16"]) == usual.replacing("float32", with: "bfloat16"))
    }

    @Test(arguments: [("batch_size", "0"), ("batch_size", "x"), ("threads", "-1"), ("threads", "1025"), ("threads", "")])
    func numbersHaveLimits(key: String, value: String) throws {
        let error = #expect(throws: RewardPluginError.self) { try Self.settings([key: value]) }
        #expect(error?.description.hasPrefix("\(key)=\(value) is not a number from ") == true)
    }
}
