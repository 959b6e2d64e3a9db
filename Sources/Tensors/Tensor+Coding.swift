import CTorch
import Foundation

extension Tensor: Codable {
    private enum CodingKeys: CodingKey { case shape, type, bytes }

    /// Writes type, shape and elements.
    /// - Throws: `TensorError` if an operation on tensors failed before, or an error of the encoder.
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(shape, forKey: .shape)
        try container.encode(dtype.rawValue, forKey: .type)
        try container.encode(bytes(), forKey: .bytes)
    }

    /// Reads a tensor of the CPU.
    /// - Throws: `TensorError` if the elements do not fill the shape, or an error of the decoder.
    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        let shape = try container.decode([Int64].self, forKey: .shape)
        let type = try container.decode(Int32.self, forKey: .type)
        let bytes = try container.decode(Data.self, forKey: .bytes)
        self = bytes.withUnsafeBytes { elements in
            // An empty buffer has no address, and none is read.
            let address = elements.baseAddress ?? UnsafeRawPointer(bitPattern: 1)!
            return Tensor(owning: ct_from_data(address, bytes.count, shape, shape.count, type))
        }
        try TensorError.check()
    }
}
