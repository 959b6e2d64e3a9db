import CDAGCore
import CGuard
import DAGCore
import Foundation
import Models
import Rewards
import Support

/// A call that is refused, with its status and one line that says why.
struct Refusal: Error, CustomStringConvertible {
    let status: Int
    let description: String

    init(_ status: Int, _ description: String) { (self.status, self.description) = (status, description) }

    static let destroyed = Refusal(DAG_INVALID, "trainer is none that there is: it was destroyed, or never made")

    static func null(_ argument: String) -> Refusal { Refusal(DAG_INVALID, "\(argument) is NULL") }
}

/// Runs the body of an API function: what it throws becomes a status and the thread's last error.
func call(_ body: () throws -> Void) -> Int32 {
    do {
        try body()
        guard_set_last_error("")  // callbacks may have made calls of their own
        return Int32(DAG_OK)
    } catch {
        guard_set_last_error(line(for: error))
        return Int32(status(of: error))
    }
}

/// The same on a trainer that no other call is using.
func call(on handle: OpaquePointer?, _ body: (EmbeddedTrainer) throws -> Void) -> Int32 {
    call {
        let trainer = try Trainers.find(handle)
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

private let settings: Set<String> = {
    let object = try? JSONSerialization.jsonObject(with: Data(TrainingConfiguration().json().utf8)) as? [String: Any]
    return Set((object ?? [:]).keys).union(["output", "resume", "config"])
}()

/// An error as one line, in which settings go by their keys and not by dag-train's flags.
private func line(for error: any Error) -> String {
    if error is Cancelled { return "cancelled" }
    // Whole words alone: what looks like a flag within a path is the user's own text.
    return ErrorReport.line(for: error).replacing(/(^|[ (])--([a-z-]+)(?=[ ,:;)]|$)/) { match in
        let key = match.2.replacing("-", with: "_")
        return settings.contains(String(key)) ? match.1 + key : match.0
    }
}

/// A text argument.
func text(_ pointer: UnsafePointer<CChar>?, _ argument: String) throws -> String {
    guard let pointer else { throw Refusal.null(argument) }
    guard let text = String(validatingCString: pointer) else { throw Refusal(DAG_INVALID, "\(argument) is not UTF-8") }
    return text
}

/// A struct of the caller's, as far as the caller's version of it goes; the rest is zero. All structs of the API are plain data.
func read<Struct: BitwiseCopyable>(_ pointer: UnsafePointer<Struct>?, _ argument: String) throws -> Struct {
    guard let pointer else { throw Refusal.null(argument) }
    return plainData(at: pointer, size: try size(of: pointer, argument))
}

/// Fills a struct of the caller's, as far as the caller's version of it goes.
func write<Struct: BitwiseCopyable>(_ value: Struct, to pointer: UnsafeMutablePointer<Struct>?, _ argument: String) throws {
    guard let pointer else { throw Refusal.null(argument) }
    let size = try size(of: pointer, argument)
    withUnsafeBytes(of: value) { bytes in
        let fields = MemoryLayout<UInt32>.size..<min(size, bytes.count)
        (UnsafeMutableRawPointer(pointer) + fields.lowerBound).copyMemory(
            from: bytes.baseAddress! + fields.lowerBound, byteCount: fields.count)
    }
}

/// The first field of every struct that may grow.
private func size(of pointer: UnsafeRawPointer, _ argument: String) throws -> Int {
    let size = Int(pointer.load(as: UInt32.self))
    guard size > 8 else { throw Refusal(DAG_INVALID, "\(argument)->struct_size is \(size); set it to the struct's sizeof") }
    return size
}
