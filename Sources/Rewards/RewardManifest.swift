import Foundation

/// A reward's description in a file beside it: `libhps.so.json` beside `libhps.so`. It is what `dag-reward info --json`
/// prints, and tells what a reward is without loading it.
package enum RewardManifest {
    private static let mostBytes = 1 << 20

    /// Returns the place of a reward's manifest, whether there is one or not.
    package static func file(of reward: String) -> URL { URL(fileURLWithPath: reward + ".json") }

    /// Reads a reward's manifest; nil if there is none.
    /// - Throws: `RewardError` that names the manifest.
    package static func read(of reward: String) throws -> RewardDescription? {
        let file = file(of: reward)
        guard FileManager.default.fileExists(atPath: file.path) else { return nil }
        let target = file.resolvingSymlinksInPath()
        guard (try? target.resourceValues(forKeys: [.isRegularFileKey]))?.isRegularFile == true,
            let handle = try? FileHandle(forReadingFrom: target), let data = try? handle.read(upToCount: mostBytes + 1),
            data.count <= mostBytes, let description = try? JSONDecoder().decode(RewardDescription.self, from: data)
        else {
            throw RewardError("\(file.path): not what dag-reward info --json prints; write it again")
        }
        try description.validateNames(file.path)
        return description
    }

    /// Compares a reward's manifest with what the reward says.
    /// - Returns: the keys that differ.
    /// - Throws: an error of `JSONSerialization`.
    package static func differences(_ manifest: RewardDescription, _ reward: RewardDescription) throws -> [String] {
        func object(_ description: RewardDescription) throws -> NSDictionary {
            try JSONSerialization.jsonObject(with: JSONEncoder().encode(description)) as? NSDictionary ?? [:]
        }
        let (old, new) = try (object(manifest), object(reward))
        return new.allKeys.compactMap { $0 as? String }.filter { old[$0] as? NSObject != new[$0] as? NSObject }.sorted()
    }
}
