import CDAGCore
import Foundation

/// A reward plugin's shared library with its description; no model is loaded.
///
/// Libraries are never unloaded: their tables may be used for the life of the process. `RawPlugin` of
/// dag-reward calls plugins a second, stranger way, without this code, to check them.
package final class RewardLibrary: RewardFactory, @unchecked Sendable {
    /// The library's file.
    package let path: String
    /// Its description of itself.
    package let description: RewardDescription

    /// The plugin table.
    package let functions: dag_reward_plugin
    /// Held during calls that must not overlap others into this library.
    let lock: NSLock

    /// Opens a library.
    /// - Throws: `RewardError` if it cannot be loaded, is not a reward plugin, speaks another version of the
    ///   ABI, or does not describe itself as `dag_reward.h` asks.
    package init(path: String) throws {
        let file = URL(fileURLWithPath: path).lastPathComponent
        let reader = TableReader(subject: "reward plugin \(file)")
        self.path = URL(fileURLWithPath: path).path
        (functions, lock) = try Self.open(self.path, reader)
        let info = try reader.element(functions.info, "info")
        let objectives = try reader.objectives(info.objectives, info.objective_count)
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
        try description.validateNames(reader.subject)
        let formats = try reader.values(info.image_formats, info.image_format_count, "image formats")
        guard formats.contains(Int32(DAG_REWARD_U8_NHWC)) else {
            throw RewardError("reward plugin \(file) does not accept the image format DAG_REWARD_U8_NHWC, which every plugin must")
        }
    }

    /// Makes an instance in this process.
    /// - Throws: `RewardError` for an unknown setting or device, or with the plugin's own message.
    package func make(options: [String: String], device: String, timeout: Double?) throws -> any Reward {
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
            throw RewardError("\(reader.subject) cannot be loaded: \(reason)")
        }
        guard let symbol = dlsym(handle, "dag_reward_entry") else {
            throw RewardError("\(reader.subject) does not export dag_reward_entry: it is not a reward plugin")
        }
        let entry = unsafeBitCast(symbol, to: Entry.self)
        let lock = LibraryLocks.lock(of: handle)
        var table: UnsafePointer<dag_reward_plugin>?
        try lock.withLock {
            _ = try RewardHost.call("\(reader.subject) cannot be used") { entry(RewardHost.table, &table, $0) }
        }
        let functions = try reader.element(table, "plugin table")
        guard functions.abi_version == UInt32(DAG_REWARD_ABI_VERSION) else {
            throw RewardError(
                "\(reader.subject) answered ABI version \(functions.abi_version); this program speaks "
                    + "\(DAG_REWARD_ABI_VERSION), rebuild the plugin with this program's dag_reward.h")
        }
        guard functions.create != nil, functions.score != nil, functions.destroy != nil else {
            throw RewardError("\(reader.subject) lacks one of create, score and destroy")
        }
        return (functions, lock)
    }
}
