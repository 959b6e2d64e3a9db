import CDAGCore
import CGuard
import DAGCore
import Foundation
import Models
import Rewards
import Support

/// The refusal of a call: its status and the reason in one line.
struct Refusal: OneLineError {
    let status: Int
    let description: String

    init(_ status: Int, _ description: String) {
        self.status = status
        self.description = description
    }

    static func destroyed(_ kind: String) -> Refusal {
        Refusal(DAG_INVALID, "invalid \(kind) handle: already destroyed or never created")
    }

    static func null(_ argument: String) -> Refusal { Refusal(DAG_INVALID, "\(argument) is NULL") }
}

/// Runs the body of an API function. Its error becomes the status and the thread's last error.
func call(_ body: () throws -> Void) -> Int32 {
    do {
        try body()
        guard_set_last_error("")  // callbacks may have made calls of their own
        return Int32(DAG_OK)
    } catch {
        guard_set_last_error(error is Cancelled ? "cancelled" : ErrorReport.line(for: error, .key))
        return Int32(status(of: error))
    }
}

/// Runs the body of an API function on a trainer that no other call is using.
func call(on handle: OpaquePointer?, _ body: (EmbeddedTrainer) throws -> Void) -> Int32 {
    call {
        let trainer = try Handles.find(handle, "trainer", as: EmbeddedTrainer.self)
        try trainer.exclusively { try body(trainer) }
    }
}

private func status(of error: any Error) -> Int {
    switch error {
    case let refusal as Refusal: refusal.status
    case is Cancelled: DAG_CANCELLED
    case is OrderError: DAG_ORDER
    case is ConfigurationError, is PromptError, is ModelError, is SelfCheckError: DAG_INVALID
    default: DAG_FAILED
    }
}

/// Returns a text argument.
/// - Throws: `Refusal` if it is NULL or not UTF-8.
func text(_ pointer: UnsafePointer<CChar>?, _ argument: String) throws -> String {
    guard let pointer else { throw Refusal.null(argument) }
    guard let text = String(validatingCString: pointer) else { throw Refusal(DAG_INVALID, "\(argument) is not UTF-8") }
    return text
}

/// Returns the caller's struct, which is plain data; fields that the caller's version lacks are zero.
/// - Throws: `Refusal` if it is NULL or has no size.
func read<Struct: BitwiseCopyable>(_ pointer: UnsafePointer<Struct>?, _ argument: String) throws -> Struct {
    guard let pointer else { throw Refusal.null(argument) }
    return plainData(at: pointer, size: try size(of: pointer, argument))
}

/// Fills the fields that the caller's version of a struct has.
/// - Throws: `Refusal` if it is NULL or has no size.
func write<Struct: BitwiseCopyable>(_ value: Struct, to pointer: UnsafeMutablePointer<Struct>?, _ argument: String) throws {
    guard let pointer else { throw Refusal.null(argument) }
    let size = try size(of: pointer, argument)
    withUnsafeBytes(of: value) { bytes in
        let fields = MemoryLayout<UInt32>.size..<min(size, bytes.count)
        (UnsafeMutableRawPointer(pointer) + fields.lowerBound).copyMemory(
            from: bytes.baseAddress! + fields.lowerBound, byteCount: fields.count)
    }
}

/// Returns `struct_size`, the first field of every struct that may grow.
private func size(of pointer: UnsafeRawPointer, _ argument: String) throws -> Int {
    let size = Int(pointer.load(as: UInt32.self))
    guard size > 8 else { throw Refusal(DAG_INVALID, "\(argument)->struct_size is \(size); set it to the struct's sizeof") }
    return size
}
