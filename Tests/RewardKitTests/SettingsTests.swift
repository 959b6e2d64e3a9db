import Foundation
import Testing

@testable import RewardKit

/// What the kit does beside pictures.
@Suite struct SettingsTests {
    /// Each text is asked for once, and a cache that is full starts anew.
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

    /// Every byte of a file counts.
    @Test func fingerprint() throws {
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("fingerprint-\(UUID())")
        defer { try? FileManager.default.removeItem(at: file) }
        let settings = try NeuralSettings(["weights": file.path, "precision": "fp32", "batch_size": "1"], device: "cpu")
        var data = Data(repeating: 7, count: (20 << 20) + 5)
        try data.write(to: file)
        _ = try settings.file("weights", "")
        var fingerprints = [settings.fingerprint, settings.fingerprint]
        #expect(Set(fingerprints).count == 1)
        for changed in [[0], [7], [15], [7, 15], [5_000_001], [data.count - 1], [data.count - 6]] {
            for place in changed { data[place] ^= 0x80 }
            try data.write(to: file)
            fingerprints.append(settings.fingerprint)
            for place in changed { data[place] ^= 0x80 }
        }
        try data.dropLast().write(to: file)
        fingerprints.append(settings.fingerprint)
        #expect(Set(fingerprints).count == fingerprints.count - 1)
    }
}
