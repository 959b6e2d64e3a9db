import CDAGCore
import Foundation

/// A reward plugin's shared library and what it says about itself; no model is loaded.
///
/// Libraries are never unloaded: their tables may be used for the life of the process.
public final class RewardLibrary: RewardFactory, @unchecked Sendable {
    /// The library's file.
    public let path: String
    /// What it says about itself.
    public let description: RewardDescription

    let functions: dag_reward_plugin
    /// Held during calls that must not overlap with others into this library.
    let lock: NSLock

    /// Opens a library. Throws `RewardError` if it cannot be loaded, is no reward plugin, speaks another version of the ABI, or does
    /// not describe itself as `dag_reward.h` asks.
    public init(path: String) throws {
        let file = URL(fileURLWithPath: path).lastPathComponent
        let reader = TableReader(file: file)
        self.path = URL(fileURLWithPath: path).path
        (functions, lock) = try Self.open(self.path, reader)
        let info = try reader.element(functions.info, "info")
        let objectives = try reader.elements(info.objectives, info.objective_count, "objectives").map {
            guard [Int32(DAG_REWARD_MAXIMIZE), Int32(DAG_REWARD_MINIMIZE)].contains($0.direction) else {
                throw RewardError("reward plugin \(file) gives an objective the direction \($0.direction), which is neither 1 nor -1")
            }
            return RewardObjective(
                try reader.text($0.name, "objective name"), $0.direction == Int32(DAG_REWARD_MAXIMIZE) ? .maximize : .minimize,
                detail: try reader.text($0.description, "objective description"))
        }
        guard !objectives.isEmpty, Set(objectives.map(\.name)).count == objectives.count else {
            throw RewardError("reward plugin \(file) must declare objectives, each with a name of its own")
        }
        let options = try reader.elements(info.options, info.option_count, "options").map {
            RewardDescription.Option(
                key: try reader.text($0.key, "option key"), defaultValue: try reader.text($0.default_value, "option default"),
                detail: try reader.text($0.description, "option description"))
        }
        let modes: [RewardDescription.ThreadMode] = [.serialized, .perInstance, .concurrent]
        guard info.thread_mode < modes.count else {
            throw RewardError("reward plugin \(file) declares the unknown thread mode \(info.thread_mode)")
        }
        description = RewardDescription(
            name: try reader.text(info.name, "name"), version: try reader.text(info.version, "version"),
            detail: try reader.text(info.description, "description"), license: try reader.text(info.license, "license"),
            source: try reader.text(info.source, "source"), objectives: objectives, options: options,
            takesOtherOptions: info.flags & UInt32(DAG_REWARD_OPEN_OPTIONS) != 0,
            devices: try reader.values(info.devices, info.device_count, "devices").map { try reader.text($0, "device") },
            threadMode: modes[Int(info.thread_mode)], isDeterministic: info.flags & UInt32(DAG_REWARD_DETERMINISTIC) != 0,
            largestBatch: Int(info.largest_batch))
        try description.checkKeys()
        let formats = try reader.values(info.image_formats, info.image_format_count, "image formats")
        guard formats.contains(Int32(DAG_REWARD_U8_NHWC)) else {
            throw RewardError("reward plugin \(file) does not accept the image format DAG_REWARD_U8_NHWC, which every plugin must")
        }
    }

    /// Makes an instance in this process.
    public func make(options: [String: String], device: String, timeout: Double?) throws -> any Reward {
        try RewardPlugin(self, options: options, device: device, timeout: timeout)
    }

    /// Loads the library, negotiates the version, and returns its functions and its lock.
    private static func open(_ path: String, _ reader: TableReader) throws -> (dag_reward_plugin, NSLock) {
        typealias Entry =
            @convention(c) (
                UnsafePointer<dag_reward_host>, UnsafeMutablePointer<UnsafePointer<dag_reward_plugin>?>,
                UnsafeMutablePointer<dag_reward_error>
            ) -> Int32
        guard let handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE) else {
            let reason = dlerror().map { String(cString: $0) } ?? "no reason given"
            throw RewardError("reward plugin \(reader.file) cannot be loaded: \(reason)")
        }
        guard let symbol = dlsym(handle, "dag_reward_entry") else {
            throw RewardError("reward plugin \(reader.file) does not export dag_reward_entry: it is no reward plugin")
        }
        let entry = unsafeBitCast(symbol, to: Entry.self)
        let lock = lock(of: symbol)
        var table: UnsafePointer<dag_reward_plugin>?
        try lock.withLock {
            _ = try RewardHost.call("reward plugin \(reader.file) cannot be used") { entry(RewardHost.table, &table, $0) }
        }
        let functions = try reader.element(table, "plugin table")
        guard functions.abi_version == UInt32(DAG_REWARD_ABI_VERSION) else {
            throw RewardError(
                "reward plugin \(reader.file) answered ABI version \(functions.abi_version); this program speaks "
                    + "\(DAG_REWARD_ABI_VERSION), rebuild the plugin with this program's dag_reward.h")
        }
        guard functions.create != nil, functions.score != nil, functions.destroy != nil else {
            throw RewardError("reward plugin \(reader.file) lacks one of create, score and destroy")
        }
        return (functions, lock)
    }

    private static let registry = NSLock()
    private nonisolated(unsafe) static var locks: [UnsafeMutableRawPointer: NSLock] = [:]

    /// One lock for each library, however often it is opened.
    private static func lock(of entry: UnsafeMutableRawPointer) -> NSLock {
        registry.withLock {
            let lock = locks[entry] ?? NSLock()
            locks[entry] = lock
            return lock
        }
    }
}

/// Reads a plugin's tables with the checks that `dag_reward.h` asks for.
private struct TableReader {
    let file: String

    func text(_ pointer: UnsafePointer<CChar>?, _ what: String) throws -> String {
        guard let pointer else { throw RewardError("reward plugin \(file) gives no \(what)") }
        return String(cString: pointer)
    }

    func element<Element>(_ base: UnsafePointer<Element>?, _ what: String) throws -> Element {
        try elements(base, 1, what)[0]
    }

    /// An array of structs: the first one's `struct_size` is the stride.
    func elements<Element>(_ base: UnsafePointer<Element>?, _ count: UInt32, _ what: String) throws -> [Element] {
        guard count > 0 else { return [] }
        guard let base else { throw RewardError("reward plugin \(file) gives no \(what)") }
        let stride = Int(UnsafeRawPointer(base).load(as: UInt32.self))
        guard stride >= MemoryLayout<Element>.size, stride % MemoryLayout<Element>.alignment == 0 else {
            throw RewardError(
                "reward plugin \(file) gives struct_size \(stride) in its \(what), where version \(DAG_REWARD_ABI_VERSION) has "
                    + "\(MemoryLayout<Element>.size)")
        }
        return (0..<Int(count)).map { UnsafeRawPointer(base).load(fromByteOffset: $0 * stride, as: Element.self) }
    }

    /// An array of plain values.
    func values<Element>(_ base: UnsafePointer<Element>?, _ count: UInt32, _ what: String) throws -> [Element] {
        guard let base, count > 0 else { throw RewardError("reward plugin \(file) gives no \(what)") }
        return Array(UnsafeBufferPointer(start: base, count: Int(count)))
    }
}
