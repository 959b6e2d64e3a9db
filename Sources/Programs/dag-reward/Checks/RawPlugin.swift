import CDAGCore
import Foundation
import Images
import Rewards

/// A plugin called as strangely as the ABI allows: structs of other sizes, padded rows, forbidden memory
/// around everything.
///
/// This is the host's side of the ABI a second time, on purpose: `RewardLibrary` and `RewardPlugin` are the
/// usual one, and never call a plugin like this. A change of the ABI concerns both.
final class RawPlugin {
    typealias Entry =
        @convention(c) (
            UnsafePointer<dag_reward_host>, UnsafeMutablePointer<UnsafePointer<dag_reward_plugin>?>, UnsafeMutablePointer<dag_reward_error>
        ) -> Int32

    let handle: UnsafeMutableRawPointer
    let entry: Entry
    let specification: RewardSpecification
    /// The plugin as the host opens it.
    let library: RewardLibrary
    let functions: dag_reward_plugin

    init(_ specification: RewardSpecification) throws {
        let path = try specification.locate().path
        library = try RewardLibrary(path: path)
        handle = dlopen(path, RTLD_NOW | RTLD_LOCAL)!
        entry = unsafeBitCast(dlsym(handle, "dag_reward_entry"), to: Entry.self)
        self.specification = specification
        functions = library.functions
    }

    var description: RewardDescription { library.description }

    /// The version of the header that structs have.
    enum Version {
        case first, own
        /// 64 bytes more than today's.
        case later

        fileprivate func size<Struct: GrowingStruct>(of _: Struct.Type) -> Int {
            switch self {
            case .first: Struct.firstSize
            case .own: MemoryLayout<Struct>.size
            case .later: MemoryLayout<Struct>.size + 64
            }
        }
    }

    private nonisolated(unsafe) static let usualHost = host()

    /// Makes a host table that lives as long as the process.
    /// - Parameter versions: the versions of the ABI that it claims to speak.
    static func host(versions: ClosedRange<UInt32> = 1...1, _ version: Version = .own) -> UnsafePointer<dag_reward_host> {
        let host = dag_reward_host(
            struct_size: 0, abi_min: versions.lowerBound, abi_max: versions.upperBound, reserved: 0,
            name: UnsafePointer(strdup("dag-reward check")),
            version: UnsafePointer(strdup("1")), extension: { _ in nil })
        return UnsafePointer(Unmanaged.passRetained(placed(host, version)).takeUnretainedValue().pointer())
    }

    /// Copies a struct, with its size filled in, to where memory ends.
    private static func placed<Struct: GrowingStruct>(_ value: Struct, _ version: Version = .own) -> GuardedMemory {
        let memory = GuardedMemory(version.size(of: Struct.self))
        memset(memory.bytes.baseAddress!, 0xAA, memory.bytes.count)
        withUnsafeBytes(of: value) { memory.bytes.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0.prefix(memory.bytes.count))) }
        memory.bytes.storeBytes(of: UInt32(memory.bytes.count), as: UInt32.self)
        return memory
    }

    /// Calls a function with an error buffer of the minimal size, which ends where memory ends.
    /// - Throws: `CheckFailure` if the message in it has no end.
    static func withError(_ body: (UnsafeMutablePointer<dag_reward_error>) -> Int32) throws -> (status: Int32, message: String) {
        let buffer = GuardedMemory(256)
        let error = placed(dag_reward_error(struct_size: 0, capacity: 256, message: buffer.pointer()))
        let status = withExtendedLifetime(error) { body(error.pointer()) }
        let bytes = buffer.bytes.prefix { $0 != 0 }
        guard bytes.count < 256 else {
            throw CheckFailure("an error's message fills all of its 256 bytes without a NUL at the end (dag_reward_fail writes one)")
        }
        return (status, String(decoding: bytes, as: UTF8.self))
    }

    /// Makes an instance.
    /// - Parameter changes: settings in place of the user's.
    /// - Throws: `CheckFailure` if that fails.
    func create(_ changes: [String: String] = [:]) throws -> UnsafeMutableRawPointer? {
        let (status, message, instance) = try tryCreate(changes)
        guard status == 0 else { throw CheckFailure("create failed with status \(status): \(message)") }
        return instance
    }

    /// Makes an instance, or lets the plugin refuse.
    /// - Throws: `CheckFailure` if the message has no end.
    func tryCreate(_ changes: [String: String]) throws -> (status: Int32, message: String, instance: UnsafeMutableRawPointer?) {
        let given = specification.options.merging(changes) { _, new in new }
        var instance: UnsafeMutableRawPointer?
        let (status, message) = try Self.withError { error in
            RewardSettings(given, for: description).withConfig(device: specification.device) {
                functions.create(Self.usualHost, $0, &instance, error)
            }
        }
        return (status, message, instance)
    }

    func destroy(_ instance: UnsafeMutableRawPointer?) { functions.destroy(instance) }

    /// The layout of a batch in memory.
    struct Layout {
        /// Bytes after each row and after each image.
        var rowPadding = 0, imagePadding = 0
        /// The version of the structs.
        var version = Version.own
        /// The end of every array that touches forbidden memory.
        var edge = GuardedMemory.Edge.end
        /// Whether inputs are read-only.
        var isProtected = false
        var deadline: UInt64 = 0
    }

    /// The answer of `score`.
    struct Answer: Equatable {
        let status: Int32
        let message: String
        /// `[count, objectives]`; NaN for a sample whose status is not OK.
        let scores: [Float]
        let statuses: [Int32]
    }

    /// Scores a batch.
    /// - Throws: `CheckFailure` if the error's message has no end.
    func score(_ instance: UnsafeMutableRawPointer?, _ batch: RewardBatch, _ layout: Layout = Layout()) throws -> Answer {
        let n = batch.count
        let m = description.objectives.count
        let height = batch.images.height
        let width = batch.images.width
        let rowStride = width * 3 + layout.rowPadding
        let imageStride = rowStride * height + layout.imagePadding
        // No padding after the last row.
        let pixels = GuardedMemory(max(0, (n - 1) * imageStride + (height - 1) * rowStride + width * 3), edge: layout.edge)
        memset(pixels.bytes.baseAddress!, 0xAA, pixels.bytes.count)
        for sample in 0..<n {
            batch.images[sample].withUnsafeBytes { source in
                for y in 0..<height {
                    let target = pixels.bytes.baseAddress! + sample * imageStride + y * rowStride
                    target.copyMemory(from: source.baseAddress! + y * width * 3, byteCount: width * 3)
                }
            }
        }
        let (promptBytes, prompts) = Self.texts(batch.prompts.map(\.text), layout.edge)
        let (metadataBytes, metadata) = Self.texts(batch.prompts.map(\.metadata), layout.edge)
        let ids = GuardedMemory(batch.sampleIDs, edge: layout.edge)
        let seeds = GuardedMemory(batch.seeds, edge: layout.edge)
        let scores = GuardedMemory([UInt32](repeating: DAG_REWARD_UNWRITTEN, count: n * m), edge: layout.edge)
        let statuses = GuardedMemory(n * 4, edge: layout.edge)
        let inputs = promptBytes + metadataBytes + [prompts, metadata, ids, seeds, pixels]
        let images = Self.placed(
            dag_reward_images(
                struct_size: 0, format: Int32(DAG_REWARD_U8_NHWC), data: UnsafeRawPointer(pixels.bytes.baseAddress!),
                height: UInt32(height),
                width: UInt32(width), strides: (Int64(imageStride), Int64(rowStride), 3, 1)), layout.version)
        let call = Self.placed(
            dag_reward_batch(
                struct_size: 0, count: UInt32(n), images: images.pointer(), prompts: prompts.pointer(), metadata: metadata.pointer(),
                sample_ids: ids.pointer(),
                seeds: seeds.pointer(), deadline: layout.deadline), layout.version)
        let result = Self.placed(
            dag_reward_result(struct_size: 0, objective_count: UInt32(m), scores: scores.pointer(), statuses: statuses.pointer()),
            layout.version)
        let structs = [images, call, result]
        if layout.isProtected { for memory in inputs + structs { memory.protect() } }
        return try withExtendedLifetime(inputs + structs) {
            let (status, message) = try Self.withError { functions.score(instance, call.pointer(), result.pointer(), $0) }
            let found = Array(statuses.bytes.bindMemory(to: Int32.self))
            let values = scores.bytes.bindMemory(to: Float.self).enumerated().map { found[$0 / m] == 0 ? $1 : .nan }
            return Answer(status: status, message: message, scores: values, statuses: found)
        }
    }

    /// Places texts so that their NUL is the last byte before forbidden memory, and the array that points to
    /// them.
    private static func texts(_ texts: [String], _ edge: GuardedMemory.Edge) -> ([GuardedMemory], GuardedMemory) {
        let memory = texts.map { GuardedMemory(Array($0.utf8) + [0], edge: edge) }
        let pointers = zip(texts, memory).map { dag_reward_text(data: UnsafePointer($1.pointer(CChar.self)), size: $0.utf8.count) }
        return (memory, GuardedMemory(pointers, edge: edge))
    }
}
