import CDAGCore
import Dispatch
import Foundation
import Images

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
    /// - Parameter timeout: seconds after which the plugin is asked to give up on a call; nil: never.
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
        ownFingerprint = Self.ownFingerprint(library, made)
        hash.combine(ownFingerprint.utf8)
        fingerprint = "\(description.name) \(description.version) \(hash.hex)"
    }

    deinit {
        library.lock.withLock { library.functions.destroy(instance) }
    }

    /// Scores a batch, in parts of the plugin's largest batch.
    public func score(_ batch: RewardBatch) throws -> RewardScores {
        let unwritten = Float(bitPattern: DAG_REWARD_UNWRITTEN)
        var scores = [Float](repeating: unwritten, count: batch.count * objectives.count)
        var statuses = [Int32](repeating: Int32(DAG_REWARD_OK), count: batch.count)
        var failures: [Int: String] = [:]
        let (prompts, metadata) = (BorrowedTexts(batch.prompts), BorrowedTexts(batch.metadata))
        try prompts.withTexts { prompts in
            try metadata.withTexts { metadata in
                lock?.lock()
                defer { lock?.unlock() }
                let largest = library.description.largestBatch == 0 ? batch.count : library.description.largestBatch
                for start in stride(from: 0, to: batch.count, by: largest) {
                    let count = min(largest, batch.count - start)
                    let note = try call(batch, start, count, prompts, metadata, &scores, &statuses)
                    for sample in start..<start + count where statuses[sample] != Int32(DAG_REWARD_OK) {
                        failures[sample] = note.isEmpty ? RewardHost.describe(statuses[sample]) : note
                    }
                }
            }
        }
        for (index, score) in scores.enumerated()
        where score.bitPattern == unwritten.bitPattern && failures[index / objectives.count] == nil {
            failures[index / objectives.count] =
                "\(objectives[index % objectives.count].name) is unwritten; a plugin must write every score"
        }
        return try RewardScores(scores, failures: failures, of: self, for: batch)
    }

    /// Scores samples `start..<start + count` in one call of the plugin. Returns what it wrote into the error buffer without failing.
    private func call(
        _ samples: RewardBatch, _ start: Int, _ count: Int, _ prompts: UnsafePointer<dag_reward_text>,
        _ metadata: UnsafePointer<dag_reward_text>, _ scores: UnsafeMutablePointer<Float>, _ statuses: UnsafeMutablePointer<Int32>
    ) throws -> String {
        let (pictures, rowBytes) = (samples.images, Int64(samples.images.width * 3))
        return try RewardHost.call("reward \(name) failed on \(samples.names(start..<start + count))") { error in
            pictures.withUnsafeBytes { pixels in
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
        guard let timeout else { return 0 }
        return DispatchTime.now().uptimeNanoseconds + UInt64(max(0, timeout) * 1e9)
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
