import CDAGCore
import Foundation
import Support

/// This program as plugins see it: the host table of `dag_reward.h`, and calls into plugins.
enum RewardHost {
    /// The host table. It lives as long as the process: plugins keep the pointer.
    nonisolated(unsafe) static let table: UnsafePointer<dag_reward_host> = constant(
        dag_reward_host(
            struct_size: UInt32(MemoryLayout<dag_reward_host>.size),
            abi_min: UInt32(DAG_REWARD_ABI_VERSION), abi_max: UInt32(DAG_REWARD_ABI_VERSION), reserved: 0,
            name: constantText("dag"), version: constantText(DAGVersion.text),
            extension: { name in
                guard let name, String(cString: name) == DAG_REWARD_LOG else { return nil }
                return UnsafeRawPointer(RewardHost.log)
            }))

    private nonisolated(unsafe) static let log: UnsafePointer<dag_reward_log> = constant(
        dag_reward_log(
            struct_size: UInt32(MemoryLayout<dag_reward_log>.size), reserved: 0,
            write: { line in
                guard let line else { return }
                try? FileHandle.standardError.write(contentsOf: Data("reward: \(String(cString: line).oneLine)\n".utf8))
            }))

    private static func constant<Value>(_ value: Value) -> UnsafePointer<Value> {
        let pointer = UnsafeMutablePointer<Value>.allocate(capacity: 1)
        pointer.initialize(to: value)
        return UnsafePointer(pointer)
    }

    private static func constantText(_ text: String) -> UnsafePointer<CChar> {
        let bytes = Array(text.utf8CString)
        let pointer = UnsafeMutablePointer<CChar>.allocate(capacity: bytes.count)
        pointer.initialize(from: bytes, count: bytes.count)
        return UnsafePointer(pointer)
    }

    /// Calls a plugin function that takes an error buffer.
    /// - Parameter what: the subject and verb of the error.
    /// - Returns: the message that the plugin wrote in spite of an OK.
    /// - Throws: `RewardError` with the plugin's message for a status other than OK.
    static func call(_ what: @autoclosure () -> String, _ body: (UnsafeMutablePointer<dag_reward_error>) -> Int32) throws -> String {
        var message = [CChar](repeating: 0, count: 1024)
        let capacity = message.count
        let status = message.withUnsafeMutableBufferPointer { buffer in
            var error = dag_reward_error(
                struct_size: UInt32(MemoryLayout<dag_reward_error>.size), capacity: UInt32(capacity), message: buffer.baseAddress)
            return body(&error)
        }
        let reason = String(decoding: message.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
        guard status == Int32(DAG_REWARD_OK) else { throw RewardError("\(what()): " + (reason.isEmpty ? describe(status) : reason)) }
        return reason
    }

    /// Describes a status in words.
    static func describe(_ status: Int32) -> String {
        switch Int(status) {
        case DAG_REWARD_INVALID: "invalid setting or input"
        case DAG_REWARD_UNSUPPORTED: "unsupported"
        case DAG_REWARD_IO: "a file or service could not be reached"
        case DAG_REWARD_MEMORY: "out of memory"
        case DAG_REWARD_DEADLINE: "the deadline passed"
        default: "internal error (status \(status))"
        }
    }
}
