import Foundation

/// A tensor file that cannot be read or written, in one line that names it.
package struct TensorFileError: Error, CustomStringConvertible {
    /// One line: the file, the problem and the remedy.
    package let description: String
    /// - Parameter description: one line that names the file.
    package init(_ description: String) { self.description = description }
}

/// The safetensors format (https://github.com/huggingface/safetensors):
/// 8 bytes of header length, a JSON header, packed tensors.
package struct Safetensors {
    /// The tensors by name, as views of the mapped file.
    package let tensors: [String: Tensor]
    /// Types of tensors that cannot be used here, by the tensors' names.
    package let unsupported: [String: String]
    /// The header's `__metadata__`.
    package let metadata: [String: String]

    private static let types: [String: DType] = [
        "F64": .float64, "F32": .float32, "F16": .float16, "BF16": .bfloat16, "I64": .int64, "I32": .int32, "U8": .uint8, "BOOL": .bool,
    ]

    /// Maps `file` and checks that its tensors fill it without gaps and overlaps, as the safetensors library
    /// does. Tensors are read when they are used.
    /// - Throws: `TensorFileError` that names the file.
    package init(contentsOf file: URL) throws {
        func broken(_ reason: String) -> TensorFileError {
            TensorFileError("\(file.path): \(reason); the file is damaged or incomplete, fetch or write it again")
        }
        let data: Data
        do {
            data = try Data(contentsOf: file, options: .alwaysMapped)
        } catch {
            throw TensorFileError("\(file.path): cannot be read (\(error.localizedDescription))")
        }
        if data.starts(with: ZipArchive.signature) {
            throw TensorFileError("\(file.path): a zip archive, perhaps of torch.save, not safetensors; rename it to end in .bin")
        }
        if let kind = FileKind.foreign(data) { throw TensorFileError("\(file.path): \(kind)") }
        guard data.count >= 8 else { throw broken("\(data.count) bytes are too few for a safetensors file") }
        let length = data.withUnsafeBytes { UInt64(littleEndian: $0.loadUnaligned(as: UInt64.self)) }
        guard length <= UInt64(data.count - 8) else {
            throw broken("its header says \(length) bytes, the file has \(data.count)")
        }
        let start = 8 + Int(length)
        guard let header = try? JSONSerialization.jsonObject(with: data[8..<start]) as? [String: Any] else {
            throw broken("its header is not JSON")
        }
        var tensors: [String: Tensor] = [:]
        var unsupported: [String: String] = [:]
        var places: [Range<Int>] = []
        for (name, value) in header where name != "__metadata__" {
            guard let entry = value as? [String: Any], let code = entry["dtype"] as? String, let shape = entry["shape"] as? [Int],
                let offsets = entry["data_offsets"] as? [Int], offsets.count == 2, shape.allSatisfy({ $0 >= 0 })
            else { throw broken("tensor '\(name)' has a bad header") }
            guard 0 <= offsets[0], offsets[0] <= offsets[1], offsets[1] <= data.count - start else {
                throw broken("tensor '\(name)' reaches beyond the end of the file")
            }
            places.append(offsets[0]..<offsets[1])
            guard let dtype = Self.types[code] else {
                unsupported[name] = code
                continue
            }
            let bytes = shape.reduce(dtype.size) { product, size in
                let (value, overflow) = product.multipliedReportingOverflow(by: size)
                return overflow ? -1 : value
            }
            guard offsets[1] - offsets[0] == bytes else { throw broken("tensor '\(name)' has a wrong size") }
            tensors[name] =
                bytes == 0
                ? Tensor.zeros(shape, dtype: dtype) : Tensor(mapping: data, offset: start + offsets[0], shape: shape, dtype: dtype)
        }
        var end = 0
        for place in places.sorted(by: { ($0.lowerBound, $0.upperBound) < ($1.lowerBound, $1.upperBound) }) {
            guard place.lowerBound == end else { throw broken("its tensors overlap, or leave gaps") }
            end = place.upperBound
        }
        guard end == data.count - start else { throw broken("\(data.count - start - end) bytes follow its tensors") }
        guard let metadata = (header["__metadata__"] ?? [:]) as? [String: String] else { throw broken("its __metadata__ is not text") }
        self.tensors = tensors
        self.unsupported = unsupported
        self.metadata = metadata
    }

    /// Encodes a file with `tensors` in the order of their names; equal tensors give equal bytes.
    /// - Throws: `TensorError` if an operation on tensors failed before.
    package static func encode(_ tensors: [String: Tensor], metadata: [String: String] = [:]) throws -> Data {
        var header: [String: Any] = [:]
        var body = Data()
        for (name, tensor) in tensors.sorted(by: { $0.key < $1.key }) {
            guard let code = types.first(where: { $0.value == tensor.dtype })?.key else { continue }
            let start = body.count
            body.append(try tensor.bytes())
            header[name] = ["dtype": code, "shape": tensor.shape, "data_offsets": [start, body.count]]
        }
        if !metadata.isEmpty { header["__metadata__"] = metadata }
        var json = try JSONSerialization.data(withJSONObject: header, options: [.sortedKeys, .withoutEscapingSlashes])
        json.append(Data(repeating: 0x20, count: (8 - json.count % 8) % 8))  // tensors start at multiples of 8
        var file = withUnsafeBytes(of: UInt64(json.count).littleEndian) { Data($0) }
        file.append(json)
        file.append(body)
        return file
    }
}
