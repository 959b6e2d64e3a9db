import CTorch
import Foundation

/// Element types, with libtorch's numbers.
package enum DType: Int32, Sendable {
    case uint8 = 0
    case int32 = 3
    case int64 = 4
    case float16 = 5
    case float32 = 6
    case float64 = 7
    case bool = 11
    case bfloat16 = 15

    /// Bytes of one element.
    package var size: Int {
        switch self {
        case .uint8, .bool: 1
        case .float16, .bfloat16: 2
        case .int32, .float32: 4
        case .int64, .float64: 8
        }
    }
}

/// The device that holds a tensor and computes with it.
package enum Device: Int32, Sendable {
    case cpu = 0
    case cuda = 1

    /// Whether libtorch_cuda.so is beside libtorch_cpu.so and finds a device.
    package static var cudaIsAvailable: Bool { ct_cuda_available() }
    /// Whether libtorch_cuda.so is there. CUDA is not asked, which would then look at its environment no more.
    package static var hasCUDALibrary: Bool { ct_has_cuda_library() }
}

/// The first failure in libtorch since the last check, in libtorch's words.
package struct TensorError: Error, CustomStringConvertible {
    /// libtorch's message.
    package let description: String

    /// Throws the calling thread's first error since the last call, if there was one.
    ///
    /// Operations on tensors do not throw. After an error they return an undefined tensor, and the error is
    /// kept until it is read here. Every copy to the host, every optimiser step and every save calls this.
    /// - Throws: `TensorError`.
    package static func check() throws {
        if let error = take() { throw error }
    }

    /// Returns the error that `check` would throw, and forgets it.
    package static func take() -> TensorError? {
        guard let message = ct_take_error() else { return nil }
        defer { free(message) }
        return TensorError(description: String(cString: message))
    }

    /// Whether memory ran out, on the host or the device.
    package var isOutOfMemory: Bool {
        ["out of memory", "can't allocate", "bad_alloc"].contains(where: description.contains)
    }
}

/// A libtorch tensor: a value with shared storage, as in PyTorch.
package struct Tensor {
    /// The owner of one reference to libtorch's tensor.
    private final class Storage {
        let handle: ct_tensor
        init(_ handle: ct_tensor) { self.handle = handle }
        deinit { ct_release(handle) }
    }

    private let storage: Storage

    /// Takes over a +1 reference from the C shim.
    init(owning handle: ct_tensor) { storage = Storage(handle) }

    /// Calls `body` with the handle and keeps the tensor alive until it returns.
    ///
    /// Without this, Swift may release the tensor after its last use, before `body` is done with the handle.
    func withHandle<Result>(_ body: (ct_tensor) -> Result) -> Result {
        withExtendedLifetime(storage) { body(storage.handle) }
    }

    /// Calls `body` with the handles of several tensors and keeps them alive until it returns.
    static func withHandles<Result>(_ tensors: [Tensor], _ body: ([ct_tensor]) -> Result) -> Result {
        withExtendedLifetime(tensors) { body(tensors.map { $0.storage.handle }) }
    }
}

extension Tensor {
    /// Whether this is a tensor at all: false for the result
    /// of a failed operation, and for a missing gradient.
    package var isDefined: Bool { withHandle { ct_defined($0) } }
    /// Number of dimensions.
    package var rank: Int { withHandle { ct_rank($0) } }
    /// Sizes of all dimensions.
    package var shape: [Int] { withHandle { handle in (0..<ct_rank(handle)).map { Int(ct_size(handle, $0)) } } }
    /// Number of elements.
    package var count: Int { shape.reduce(1, *) }
    /// The type of an element.
    package var dtype: DType { DType(rawValue: withHandle { ct_dtype($0) }) ?? .float32 }
    /// The device that holds the elements.
    package var device: Device { Device(rawValue: withHandle { ct_device($0) }) ?? .cpu }

    /// Returns the size of dimension `index`.
    package func size(_ index: Int) -> Int { withHandle { Int(ct_size($0, index)) } }
}

/// The libtorch runtime of this process.
package enum Torch {
    /// The version of the loaded library, such as 2.13.0.
    package static var version: String { String(cString: ct_version()) }

    /// The number of threads that one operation may use on the CPU.
    package static var threads: Int {
        get { Int(ct_threads()) }
        set { ct_set_threads(Int32(newValue)) }
    }
}
