import CDAGCore
import Foundation

/// A reward in a shared library that speaks `dag_reward.h`, loaded into this process.
package final class RewardPlugin: Reward, @unchecked Sendable {
    /// The library.
    package let library: RewardLibrary
    /// Name, version, and words for everything that the scores depend on: the plugin's own words for all of
    /// it, or else the settings and the plugin's words for its weights. Building the same version again
    /// changes nothing.
    package let fingerprint: String
    /// The plugin's name.
    package var name: String { library.description.name }
    /// The numbers that it gives each image, in the order of the scores.
    package var objectives: [RewardObjective] { library.description.objectives }
    /// Whether equal images get equal scores.
    package var isDeterministic: Bool { library.description.isDeterministic }

    private let instance: UnsafeMutableRawPointer?
    /// Held while scoring; nil if the plugin lets calls overlap.
    private let lock: NSLock?
    private let timeout: Double?

    /// Loads the plugin's model: see `RewardFactory.make`.
    /// - Parameter timeout: seconds after which the plugin is asked to give up on a batch; nil: never.
    /// - Throws: `RewardError` for an unknown setting or device, or with the plugin's own message.
    package init(
        _ library: RewardLibrary, options: [String: String] = [:], device: String = "cpu", timeout: Double? = nil
    ) throws {
        self.library = library
        self.timeout = timeout
        let description = library.description
        try description.validate(options: options, device: device)
        let settings = RewardSettings(options, for: description)
        var made: UnsafeMutableRawPointer?
        try library.lock.withLock {
            _ = try RewardHost.call("reward \(description.name) cannot be made") { error in
                settings.withConfig(device: device) { library.functions.create(RewardHost.table, $0, &made, error) }
            }
        }
        instance = made
        switch description.threadMode {
        case .serialized: lock = library.lock
        case .perInstance: lock = NSLock()
        case .concurrent: lock = nil
        }
        let words = library.lock.withLock { () -> [String] in
            if let whole = Self.text(DAG_REWARD_WHOLE_FINGERPRINT, library, made) { return [whole] }
            return settings.settings.map { "\($0.key)=\($0.value)" } + [Self.text(DAG_REWARD_FINGERPRINT, library, made)].compactMap { $0 }
        }
        fingerprint = ([description.name, description.version] + words).joined(separator: " ")
    }

    deinit {
        library.lock.withLock { library.functions.destroy(instance) }
    }

    /// Scores a batch, in parts of the plugin's largest batch.
    /// - Throws: `RewardError` that says on which samples the plugin failed and why.
    package func result(_ batch: RewardBatch) throws -> RewardResult {
        lock?.lock()
        defer { lock?.unlock() }
        let score = library.functions.score!
        let function = ScoreFunction(largestBatch: library.description.largestBatch, timeout: timeout) { [instance] in
            score(instance, $0, $1, $2)
        }
        return try function.result(batch, of: self)
    }

    /// Reads a fingerprint that the plugin writes.
    /// - Parameter name: the extension, a `dag_reward_fingerprint`.
    /// - Returns: nil if the plugin does not have the extension.
    private static func text(_ name: String, _ library: RewardLibrary, _ instance: UnsafeMutableRawPointer?) -> String? {
        guard let table = library.functions.extension?(name)?.assumingMemoryBound(to: dag_reward_fingerprint.self),
            let write = try? TableReader(subject: "reward \(library.description.name)").element(table, name).write
        else { return nil }
        var text = [CChar](repeating: 0, count: 1024)
        guard write(instance, &text, text.count - 1) == Int32(DAG_REWARD_OK) else { return nil }
        return String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}
