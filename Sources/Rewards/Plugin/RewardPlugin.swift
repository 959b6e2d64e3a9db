import CDAGCore
import Foundation

/// A reward in a shared library that speaks `dag_reward.h`, loaded into this process.
public final class RewardPlugin: Reward, @unchecked Sendable {
    /// The library and what it says of itself.
    public let library: RewardLibrary
    /// Of name, version, settings and, where the plugin tells, weights: building the same version again changes nothing.
    public let fingerprint: String
    /// The plugin's name.
    public var name: String { library.description.name }
    /// What it scores, in the order of the scores.
    public var objectives: [RewardObjective] { library.description.objectives }
    /// Whether equal pictures get equal scores.
    public var isDeterministic: Bool { library.description.isDeterministic }

    /// What the plugin adds to the fingerprint, by its extension; "" if it has none.
    let ownFingerprint: String
    private let instance: UnsafeMutableRawPointer?
    /// Held while scoring; nil if the plugin lets calls overlap.
    private let lock: NSLock?
    private let timeout: Double?

    /// Loads the plugin's model: see `RewardFactory.make`.
    /// - Parameter timeout: seconds after which the plugin is asked to give up on a batch; nil: never.
    public init(
        _ library: RewardLibrary, options: [String: String] = [:], device: String = "cpu", timeout: Double? = nil
    ) throws {
        self.library = library
        self.timeout = timeout
        let description = library.description
        try description.check(options: options, device: device)
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
        var hash = FNV1a()
        hash.combine(settings.json.utf8)
        ownFingerprint = library.lock.withLock { Self.ownFingerprint(library, made) }
        hash.combine(ownFingerprint.utf8)
        fingerprint = "\(description.name) \(description.version) \(hash.hex)"
    }

    deinit {
        library.lock.withLock { library.functions.destroy(instance) }
    }

    /// Scores a batch, in parts of the plugin's largest batch.
    public func score(_ batch: RewardBatch) throws -> RewardScores {
        lock?.lock()
        defer { lock?.unlock() }
        let (function, instance) = (library.functions.score!, instance)
        return try ScoreFunction(largestBatch: library.description.largestBatch, timeout: timeout) { function(instance, $0, $1, $2) }
            .score(batch, of: self)
    }

    private static func ownFingerprint(_ library: RewardLibrary, _ instance: UnsafeMutableRawPointer?) -> String {
        guard let table = library.functions.extension?(DAG_REWARD_FINGERPRINT)?.assumingMemoryBound(to: dag_reward_fingerprint.self),
            let extra = try? TableReader(subject: "reward \(library.description.name)").element(table, DAG_REWARD_FINGERPRINT)
        else { return "" }
        var text = [CChar](repeating: 0, count: 1024)
        guard extra.write?(instance, &text, text.count - 1) == Int32(DAG_REWARD_OK) else { return "" }
        return String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}
