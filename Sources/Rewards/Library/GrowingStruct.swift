// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation
import CDAGCore

/// A struct of `dag_reward.h` that starts with its size and may grow at its end.
package protocol GrowingStruct {
    /// Size in version 1: the minimum.
    static var firstSize: Int { get }
}

/// Copies a struct that was written by another version; fields that this version appended are zero.
/// - Parameter size: bytes of the writer's version.
package func plainData<Value: BitwiseCopyable>(at pointer: UnsafeRawPointer, size: Int) -> Value {
    withUnsafeTemporaryAllocation(of: Value.self, capacity: 1) { buffer in
        let bytes = UnsafeMutableRawPointer(buffer.baseAddress!)
        bytes.initializeMemory(as: UInt8.self, repeating: 0, count: MemoryLayout<Value>.size)
        bytes.copyMemory(from: pointer, byteCount: min(size, MemoryLayout<Value>.size))
        return bytes.load(as: Value.self)
    }
}

// Sources/C/CDAGCore/anchor.c has the same sizes.
extension dag_reward_error: GrowingStruct { package static var firstSize: Int { 16 } }
extension dag_reward_host: GrowingStruct { package static var firstSize: Int { 40 } }
extension dag_reward_objective: GrowingStruct { package static var firstSize: Int { 24 } }
extension dag_reward_option: GrowingStruct { package static var firstSize: Int { 32 } }
extension dag_reward_info: GrowingStruct { package static var firstSize: Int { 104 } }
extension dag_reward_config: GrowingStruct { package static var firstSize: Int { 40 } }
extension dag_reward_images: GrowingStruct { package static var firstSize: Int { 56 } }
extension dag_reward_batch: GrowingStruct { package static var firstSize: Int { 56 } }
extension dag_reward_result: GrowingStruct { package static var firstSize: Int { 24 } }
extension dag_reward_plugin: GrowingStruct { package static var firstSize: Int { 48 } }
extension dag_reward_fingerprint: GrowingStruct { package static var firstSize: Int { 16 } }
