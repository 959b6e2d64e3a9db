import CDAGCore
import Foundation
import Models
import Tensors

/// Implements a plugin's only exported function, `dag_reward_entry`, for a `NeuralReward`.
///
/// The Swift template, examples/plugins/swift/Sources/Roughness/Plugin.swift, does the same for rewards without
/// libtorch. It has to stand alone, so the two share no code: a change of the ABI concerns both.
package func rewardEntry(
    _ type: any NeuralReward.Type, _ host: UnsafePointer<dag_reward_host>,
    _ plugin: UnsafeMutablePointer<UnsafePointer<dag_reward_plugin>?>, _ error: UnsafeMutablePointer<dag_reward_error>
) -> Int32 {
    let version = UInt32(DAG_REWARD_ABI_VERSION)
    guard host.pointee.abi_min <= version, host.pointee.abi_max >= version else {
        return fail(
            error, DAG_REWARD_UNSUPPORTED,
            "speaks reward ABI \(version), the host speaks \(host.pointee.abi_min) to \(host.pointee.abi_max)")
    }
    if Table.plugin == nil { Table.make(type) }
    plugin.pointee = Table.plugin
    return Int32(DAG_REWARD_OK)
}

/// An instance of a reward, as the host's pointer refers to it.
private final class Instance {
    let reward: any NeuralReward
    let fingerprint: String
    private var batchSize: Int
    private let threads: Int
    private let log: (String) -> Void

    init(_ type: any NeuralReward.Type, _ host: dag_reward_host, _ config: dag_reward_config) throws {
        var values: [String: String] = [:]
        for index in 0..<Int(config.setting_count) {
            let setting = config.settings[index]
            values[String(cString: setting.key!)] = String(cString: setting.value!)
        }
        let log = Self.log(host, prefix: type.card.name)
        let settings = try NeuralSettings(values, device: String(cString: config.device!), log: log)
        batchSize = settings.batchSize
        threads = settings.threads
        self.log = log
        (reward, fingerprint) = try Self.withThreads(threads) {
            let reward = try type.init(settings)
            try TensorError.check()
            let threads = settings.device == .cpu ? ", threads: \(Torch.threads)" : ""
            log("\(reward.summary); \(settings.dtype) on \(settings.device)\(threads)")
            return (reward, try settings.fingerprint())
        }
    }

    func score(_ batch: dag_reward_batch, _ result: dag_reward_result) throws {
        let source = batch.images.pointee
        guard source.height > 0, source.width > 0 else { throw RewardPluginError("the images are empty") }
        let images = BorrowedImages(
            base: source.data!, count: Int(batch.count), height: Int(source.height), width: Int(source.width),
            imageStride: Int(source.strides.0), rowStride: Int(source.strides.1))
        let prompts = (0..<images.count).map { index in
            let text = batch.prompts[index]
            return String(decoding: UnsafeRawBufferPointer(start: text.data, count: text.size), as: UTF8.self)
        }
        let objectives = Int(result.objective_count)
        var start = 0
        while start < images.count {
            let range = start..<min(start + batchSize, images.count)
            do {
                let scores = try Self.withThreads(threads) {
                    try withoutGradients { try reward.score(images.part(range), prompts: Array(prompts[range])) }
                }
                try TensorError.check()
                for (index, score) in scores.enumerated() { result.scores[start * objectives + index] = score }
                start = range.upperBound
            } catch {
                let reason = reason(error)
                guard range.count > 1, (reason as? TensorError)?.isOutOfMemory == true else { throw reason }
                batchSize = range.count / 2
                log("no memory for \(range.count) images at once; going on with batch_size=\(batchSize)")
            }
        }
    }

    /// Runs the body with `count` threads on the CPU, and restores
    /// the process's number afterwards; 0 changes nothing.
    private static func withThreads<Result>(_ count: Int, _ body: () throws -> Result) rethrows -> Result {
        guard count > 0 else { return try body() }
        let before = Torch.threads
        Torch.threads = count
        defer { Torch.threads = before }
        return try body()
    }

    /// Returns a function that writes lines to the host's log, if it has one, after the plugin's name.
    private static func log(_ host: dag_reward_host, prefix: String) -> (String) -> Void {
        guard let table = host.extension?(DAG_REWARD_LOG), let write = table.load(as: dag_reward_log.self).write else {
            return { _ in }
        }
        return { write("\(prefix): \($0)") }
    }
}

/// The plugin's tables, which are made once and stay for the life of the process.
///
/// They need no lock, since calls into the plugin never overlap (`DAG_REWARD_SERIALIZED`).
private enum Table {
    nonisolated(unsafe) static var plugin: UnsafePointer<dag_reward_plugin>?
    nonisolated(unsafe) static var type: (any NeuralReward.Type)!
    nonisolated(unsafe) static let fingerprint = constant([
        dag_reward_fingerprint(
            struct_size: UInt32(MemoryLayout<dag_reward_fingerprint>.size), reserved: 0,
            write: { instance, text, capacity in
                let own = Unmanaged<Instance>.fromOpaque(instance!).takeUnretainedValue().fingerprint
                copy(own, to: text!, capacity: capacity)
                return Int32(DAG_REWARD_OK)
            })
    ])

    static func make(_ type: any NeuralReward.Type) {
        Self.type = type
        let card = type.card
        let options = card.allOptions
        let info = dag_reward_info(
            struct_size: UInt32(MemoryLayout<dag_reward_info>.size), flags: UInt32(DAG_REWARD_DETERMINISTIC), name: text(card.name),
            version: text(card.version), description: text(card.description), license: text(card.license), source: text(card.source),
            objective_count: UInt32(card.objectives.count), option_count: UInt32(options.count), image_format_count: 1, device_count: 2,
            objectives: constant(
                card.objectives.map {
                    dag_reward_objective(
                        struct_size: UInt32(MemoryLayout<dag_reward_objective>.size), direction: Int32(DAG_REWARD_MAXIMIZE),
                        name: text($0.name), description: text($0.description))
                }),
            options: constant(
                options.map {
                    dag_reward_option(
                        struct_size: UInt32(MemoryLayout<dag_reward_option>.size), reserved: 0, key: text($0.key),
                        default_value: text($0.defaultValue), description: text($0.description))
                }), image_formats: constant([Int32(DAG_REWARD_U8_NHWC)]), devices: constant([text("cpu"), text("cuda")]),
            thread_mode: UInt32(DAG_REWARD_SERIALIZED), largest_batch: 0)
        plugin = constant([
            dag_reward_plugin(
                struct_size: UInt32(MemoryLayout<dag_reward_plugin>.size), abi_version: UInt32(DAG_REWARD_ABI_VERSION),
                info: constant([info]),
                create: { host, config, instance, error in
                    caught(error!) {
                        instance!.pointee = Unmanaged.passRetained(try Instance(Table.type, host!.pointee, config!.pointee)).toOpaque()
                    }
                },
                score: { instance, batch, result, error in
                    caught(error!) {
                        try Unmanaged<Instance>.fromOpaque(instance!).takeUnretainedValue().score(batch!.pointee, result!.pointee)
                    }
                },
                destroy: { instance in Unmanaged<Instance>.fromOpaque(instance!).release() },
                extension: { name in
                    // A host that knows only the first version adds
                    // the settings to this text, which does no harm.
                    let isKnown = [DAG_REWARD_FINGERPRINT, DAG_REWARD_WHOLE_FINGERPRINT].contains(String(cString: name!))
                    return isKnown ? UnsafeRawPointer(Table.fingerprint) : nil
                })
        ])
    }

    private static func constant<Value>(_ values: [Value]) -> UnsafePointer<Value> {
        let pointer = UnsafeMutablePointer<Value>.allocate(capacity: values.count)
        pointer.initialize(from: values, count: values.count)
        return UnsafePointer(pointer)
    }

    private static func text(_ text: String) -> UnsafePointer<CChar>? { UnsafePointer(strdup(text)) }
}

/// Runs the body, and turns an error into a status and one line of text.
private func caught(_ buffer: UnsafeMutablePointer<dag_reward_error>, _ body: () throws -> Void) -> Int32 {
    _ = TensorError.take()  // an error of an earlier call has nothing to do with this one
    do {
        try body()
        return Int32(DAG_REWARD_OK)
    } catch {
        let reason = reason(error)
        let line = "\(reason)".split(separator: "\n").first.map(String.init) ?? "error without a message"
        guard let reason = reason as? TensorError else { return fail(buffer, DAG_REWARD_INVALID, line) }
        return fail(buffer, reason.isOutOfMemory ? DAG_REWARD_MEMORY : DAG_REWARD_INTERNAL, line)
    }
}

/// Returns the cause of an error: if an operation on tensors
/// failed before, then its error, else the error itself.
private func reason(_ error: any Error) -> any Error { error is TensorError ? error : TensorError.take() ?? error }

private func fail(_ error: UnsafeMutablePointer<dag_reward_error>, _ status: Int, _ message: String) -> Int32 {
    copy(message, to: error.pointee.message, capacity: Int(error.pointee.capacity))
    return Int32(status)
}

/// Copies text into a buffer and ends it with NUL. Text that is too long is cut between two characters.
private func copy(_ text: String, to target: UnsafeMutablePointer<CChar>, capacity: Int) {
    guard capacity > 0 else { return }
    var end = text.startIndex
    var size = 0
    while end < text.endIndex, size + text[end].utf8.count < capacity {
        size += text[end].utf8.count
        end = text.index(after: end)
    }
    for (index, byte) in text[..<end].utf8.enumerated() { target[index] = CChar(bitPattern: byte) }
    target[size] = 0
}
