import CTorch
import Foundation

/// A `torch.Generator` on the CPU: the same seed gives the same numbers as in PyTorch.
package final class Generator {
    fileprivate let handle: ct_generator?

    /// Equals `torch.Generator().manual_seed(seed)`.
    package init(seed: UInt64) { handle = ct_generator_new(seed) }
    deinit { if let handle { ct_generator_free(handle) } }
}

/// A Swift type of elements that tensors can be made from and read into.
package protocol TensorElement: BitwiseCopyable {
    /// The element type of tensors made from this type.
    static var dtype: DType { get }
}

extension Tensor {
    /// Returns a tensor whose elements all have one value.
    package static func full(_ shape: [Int], _ value: Double, dtype: DType = .float32, device: Device = .cpu) -> Tensor {
        shape.withSizes { Tensor(owning: ct_full($0, $1, value, dtype.rawValue, device.rawValue)) }
    }

    /// Returns a tensor of zeros.
    package static func zeros(_ shape: [Int], dtype: DType = .float32, device: Device = .cpu) -> Tensor {
        full(shape, 0, dtype: dtype, device: device)
    }

    /// Returns standard normal float32 numbers on the CPU, in the order in which `torch.randn` draws them.
    package static func randn(_ shape: [Int], generator: Generator) -> Tensor {
        guard let handle = generator.handle else { return zeros(shape) }
        return withExtendedLifetime(generator) { shape.withSizes { Tensor(owning: ct_randn($0, $1, handle)) } }
    }

    /// Returns uniform float32 numbers in [0, 1) on the CPU, in the order in which `torch.rand` draws them.
    package static func rand(_ shape: [Int], generator: Generator) -> Tensor {
        guard let handle = generator.handle else { return zeros(shape) }
        return withExtendedLifetime(generator) { shape.withSizes { Tensor(owning: ct_rand($0, $1, handle)) } }
    }

    /// Returns 0, 1, ... end - 1 as int64.
    package static func arange(_ end: Int, device: Device = .cpu) -> Tensor { Tensor(owning: ct_arange(Int64(end), device.rawValue)) }

    /// Returns `count` float32 numbers from `start` to `end`, both included, as `torch.linspace`.
    package static func linspace(_ start: Double, _ end: Double, count: Int) -> Tensor {
        Tensor(owning: ct_linspace(start, end, Int64(count)))
    }

    /// Copies `values` (row-major) into `shape`, by default one dimension.
    package init<T: TensorElement>(_ values: [T], shape: [Int]? = nil, device: Device = .cpu) {
        let host = values.withUnsafeBytes { bytes in
            (shape ?? [values.count]).withSizes { sizes, rank in
                withUnsafeBytes(of: UInt8(0)) { empty in  // an empty array has no address
                    Tensor(owning: ct_from_data(bytes.baseAddress ?? empty.baseAddress!, bytes.count, sizes, rank, T.dtype.rawValue))
                }
            }
        }
        self = device == .cpu ? host : host.to(device)
    }

    /// Makes a view of `file`'s bytes from `offset` on. Nothing
    /// is copied until the tensor is converted or moved.
    init(mapping file: Data, offset: Int, shape: [Int], dtype: DType) {
        final class Box {
            let data: Data
            init(_ data: Data) { self.data = data }
        }
        let box = Unmanaged.passRetained(Box(file))
        let address = file.withUnsafeBytes { UnsafeMutableRawPointer(mutating: $0.baseAddress! + offset) }
        self = shape.withSizes { sizes, rank in
            Tensor(
                owning: ct_from_memory(
                    address, sizes, rank, dtype.rawValue, { Unmanaged<Box>.fromOpaque($0).release() }, box.toOpaque()))
        }
    }

    /// Copies the elements, row-major, converted to `type` if they have another. Waits for the device.
    /// - Throws: `TensorError` if this or an earlier operation failed.
    package func array<T: TensorElement>(_ type: T.Type = T.self) throws -> [T] {
        let source = to(T.dtype)
        let values = [T](unsafeUninitializedCapacity: source.count) { buffer, count in
            let bytes = buffer.count == 0 ? 0 : source.count * MemoryLayout<T>.stride
            if bytes > 0 { _ = source.withHandle { ct_copy_out($0, buffer.baseAddress!, bytes) } }
            count = source.count
        }
        try TensorError.check()
        return values
    }

    /// Returns the only element as a number. Waits for the device.
    /// - Throws: `TensorError` if there are several, or an earlier operation failed.
    package func item() throws -> Double {
        let value = withHandle { ct_item($0) }
        try TensorError.check()
        return value
    }

    /// Whether no element is NaN or infinite. Waits for the device.
    /// - Throws: `TensorError` if an earlier operation failed.
    package func isFinite() throws -> Bool { try (self * 0).sum().item() == 0 }
}

extension Float: TensorElement {
    /// The element type of tensors made from this type.
    package static var dtype: DType { .float32 }
}
extension Double: TensorElement {
    /// The element type of tensors made from this type.
    package static var dtype: DType { .float64 }
}
extension Int64: TensorElement {
    /// The element type of tensors made from this type.
    package static var dtype: DType { .int64 }
}
extension UInt8: TensorElement {
    /// The element type of tensors made from this type.
    package static var dtype: DType { .uint8 }
}

extension [Int] {
    /// Calls `body` with the numbers as C sizes.
    func withSizes<Result>(_ body: (UnsafePointer<Int64>, Int) -> Result) -> Result {
        withUnsafeTemporaryAllocation(of: Int64.self, capacity: count + 1) { buffer in
            for (k, value) in enumerated() { buffer[k] = Int64(value) }
            return body(UnsafePointer(buffer.baseAddress!), count)
        }
    }
}

extension Tensor {
    /// Copies the elements in their own type, packed row-major.
    func bytes() throws -> Data {
        var data = Data(count: count * dtype.size)
        let size = data.count
        if size > 0 { data.withUnsafeMutableBytes { buffer in _ = withHandle { ct_copy_out($0, buffer.baseAddress!, size) } } }
        try TensorError.check()
        return data
    }
}
