import CDAGCore
import Dispatch
import Foundation

/// A reward in a shared library that speaks `dag_reward.h`, loaded into this process.
public final class RewardPlugin: Reward, @unchecked Sendable {
    /// The library and what it says of itself.
    public let library: RewardLibrary
    /// Of name, version, settings and, where the plugin tells, weights: building the same version again changes nothing.
    public let fingerprint: String
    /// The plugin's name.
    public var name: String { library.name }
    /// What it scores, in the order of the scores.
    public var objectives: [RewardObjective] { library.objectives }
    /// Whether equal pictures get equal scores.
    public var isDeterministic: Bool { library.isDeterministic }

    /// What the plugin adds to the fingerprint, by its extension; "" if it has none.
    let ownFingerprint: String
    private let instance: UnsafeMutableRawPointer?
    /// Held while scoring; nil if the plugin lets calls overlap.
    private let lock: NSLock?
    private let secondsPerCall: Double?

    /// Loads the plugin's model.
    ///
    /// - Parameters:
    ///   - options: the plugin's settings; those it declares and are not given have its defaults.
    ///   - device: where it computes, such as `cpu` or `cuda:0`.
    ///   - secondsPerCall: after how long the plugin is asked to give up on a call; nil: never.
    ///
    /// Throws `RewardError` for a key that the plugin does not know, a device it does not have, or what it says itself.
    public init(
        _ library: RewardLibrary, options: [String: String] = [:], device: String = "cpu", secondsPerCall: Double? = nil
    ) throws {
        self.library = library
        self.secondsPerCall = secondsPerCall
        guard library.devices.contains(where: { device == $0 || device.hasPrefix($0 + ":") }) else {
            throw RewardError("reward \(library.name) does not run on \(device); it runs on \(library.devices.joined(separator: ", "))")
        }
        let settings = try RewardSettings(options, for: library)
        var made: UnsafeMutableRawPointer?
        try library.lock.withLock {
            _ = try RewardHost.call("reward \(library.name) cannot be made") { error in
                settings.withConfig(device: device) { library.functions.create(RewardHost.table, $0, &made, error) }
            }
        }
        instance = made
        switch library.threadMode {
        case .serialized: lock = library.lock
        case .perInstance: lock = NSLock()
        case .concurrent: lock = nil
        }
        var hash = FNV1a()
        hash.combine(settings.json.utf8)
        ownFingerprint = Self.ownFingerprint(library, made)
        hash.combine(ownFingerprint.utf8)
        fingerprint = "\(library.name) \(library.version) \(hash.hex)"
    }

    deinit {
        library.lock.withLock { library.functions.destroy(instance) }
    }

    /// Scores a batch, in parts of the plugin's largest batch.
    public func score(_ batch: RewardBatch) throws -> RewardScores {
        let unwritten = Float(bitPattern: DAG_REWARD_UNWRITTEN)
        var scores = [Float](repeating: unwritten, count: batch.count * objectives.count)
        var statuses = [Int32](repeating: Int32(DAG_REWARD_OK), count: batch.count)
        let (prompts, metadata) = (BorrowedTexts(batch.prompts), BorrowedTexts(batch.metadata))
        try prompts.withTexts { prompts in
            try metadata.withTexts { metadata in
                lock?.lock()
                defer { lock?.unlock() }
                var start = 0
                while start < batch.count {
                    let count = min(library.largestBatch, batch.count - start)
                    let note = try call(batch, start, count, prompts, metadata, &scores, &statuses)
                    if let sample = statuses.indices.first(where: { statuses[$0] != Int32(DAG_REWARD_OK) }) {
                        throw RewardError(
                            "reward \(name) cannot score sample \(batch.sampleIDs[sample]): "
                                + (note.isEmpty ? RewardHost.describe(statuses[sample]) : note))
                    }
                    start += count
                }
            }
        }
        if let missing = scores.firstIndex(where: { $0.bitPattern == unwritten.bitPattern }) {
            throw RewardError(
                "reward \(name) left \(objectives[missing % objectives.count].name) of sample "
                    + "\(batch.sampleIDs[missing / objectives.count]) unwritten; a plugin must write every score")
        }
        return try RewardScores(scores, of: self, for: batch)
    }

    /// Scores samples `start..<start + count` in one call of the plugin. Returns what it wrote into the error buffer without failing.
    private func call(
        _ samples: RewardBatch, _ start: Int, _ count: Int, _ prompts: UnsafePointer<dag_reward_text>,
        _ metadata: UnsafePointer<dag_reward_text>, _ scores: UnsafeMutablePointer<Float>, _ statuses: UnsafeMutablePointer<Int32>
    ) throws -> String {
        let (pictures, rowBytes) = (samples.images, Int64(samples.images.width * 3))
        let range = "samples \(samples.sampleIDs[start]) to \(samples.sampleIDs[start + count - 1])"
        return try RewardHost.call("reward \(name) failed on \(range)") { error in
            pictures.pixels.withUnsafeBytes { pixels in
                samples.sampleIDs.withUnsafeBufferPointer { ids in
                    samples.seeds.withUnsafeBufferPointer { seeds in
                        var images = dag_reward_images(
                            struct_size: UInt32(MemoryLayout<dag_reward_images>.size), format: Int32(DAG_REWARD_U8_NHWC),
                            data: pixels.baseAddress! + start * pictures.bytesPerImage,
                            height: UInt32(pictures.height), width: UInt32(pictures.width),
                            strides: (Int64(pictures.bytesPerImage), rowBytes, 3, 1))
                        return withUnsafePointer(to: &images) { images in
                            var batch = dag_reward_batch(
                                struct_size: UInt32(MemoryLayout<dag_reward_batch>.size), count: UInt32(count), images: images,
                                prompts: prompts + start, metadata: metadata + start, sample_ids: ids.baseAddress! + start,
                                seeds: seeds.baseAddress! + start, deadline: deadline)
                            var result = dag_reward_result(
                                struct_size: UInt32(MemoryLayout<dag_reward_result>.size),
                                objective_count: UInt32(objectives.count), scores: scores + start * objectives.count,
                                statuses: statuses + start)
                            return library.functions.score(instance, &batch, &result, error)
                        }
                    }
                }
            }
        }
    }

    /// On the monotonic clock, in nanoseconds; 0: none.
    private var deadline: UInt64 {
        guard let secondsPerCall else { return 0 }
        return DispatchTime.now().uptimeNanoseconds + UInt64(max(0, secondsPerCall) * 1e9)
    }

    private static func ownFingerprint(_ library: RewardLibrary, _ instance: UnsafeMutableRawPointer?) -> String {
        guard let find = library.functions.extension, let table = find(DAG_REWARD_FINGERPRINT) else { return "" }
        var text = [CChar](repeating: 0, count: 1024)
        let write = table.load(as: dag_reward_fingerprint.self).write
        guard write?(instance, &text, text.count - 1) == Int32(DAG_REWARD_OK) else { return "" }
        return String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}

/// Texts in one buffer, as a plugin borrows them: length-delimited, and NUL-terminated too.
private struct BorrowedTexts {
    private var bytes: [UInt8] = []
    private var sizes: [Int] = []

    init(_ texts: [String]) {
        for text in texts {
            bytes.append(contentsOf: text.utf8)
            bytes.append(0)
            sizes.append(text.utf8.count)
        }
    }

    func withTexts<Result>(_ body: (UnsafePointer<dag_reward_text>) throws -> Result) rethrows -> Result {
        try bytes.withUnsafeBytes { buffer in
            var offset = 0
            let texts = sizes.map { size in
                defer { offset += size + 1 }
                return dag_reward_text(data: buffer.baseAddress!.advanced(by: offset).assumingMemoryBound(to: CChar.self), size: size)
            }
            return try texts.withUnsafeBufferPointer { try body($0.baseAddress!) }
        }
    }
}
