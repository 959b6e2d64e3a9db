import Tensors

/// The shapes of a checkpoint's tensors, from which a model reads its sizes.
struct CheckpointShapes {
    let tensors: [String: Tensor]
    /// The file, for messages.
    let origin: String
    /// The model whose weights are expected, in the genitive, for messages.
    let owner: String

    /// Returns the shape of a tensor.
    /// - Parameter rank: the expected number of dimensions.
    /// - Throws: `ModelError` if the tensor is missing or has another number of dimensions.
    func shape(_ name: String, rank: Int) throws -> [Int] {
        guard let shape = tensors[name]?.shape else {
            // Another program's names show under which key the weights lie.
            let found = tensors.keys.min().map { "holds \($0) and \(tensors.count - 1) others, but " } ?? ""
            throw ModelError("\(origin): \(found)has no \(name), so it is not \(owner)")
        }
        guard shape.count == rank, shape.allSatisfy({ $0 > 0 }) else {
            throw ModelError("\(origin): \(name) has the shape \(shape)")
        }
        return shape
    }

    /// Counts the layers, which are numbered after `prefix`.
    /// - Throws: `ModelError` if numbers are missing, or there are 1000 layers or more.
    func layers(_ prefix: String) throws -> Int {
        let numbers = tensors.keys.filter { $0.hasPrefix(prefix) }.map { $0.dropFirst(prefix.count).prefix { $0 != "." } }
        let found = Set(numbers.compactMap { Int($0) })
        guard 1..<1000 ~= found.count, found == Set(0..<found.count) else {
            throw ModelError("\(origin): the layers of \(prefix) are not numbered from 0 on, or are too many")
        }
        return found.count
    }

    /// Reads the sizes of a vision transformer.
    /// - Parameters:
    ///   - patches: the convolution that makes tokens of patches, [width, 3, patch, patch].
    ///   - positions: [..., tokens, width], of `rank` dimensions.
    ///   - prefix: the part of a key before a layer's number.
    ///   - mlp: the first matrix of a layer's MLP, [inner, width].
    ///   - heads: returns the number of attention heads for a width.
    /// - Throws: `ModelError` that names the file and the tensor.
    func vision(
        patches: String, positions: String, rank: Int, layers prefix: String, mlp: String, heads: (_ width: Int) -> Int
    ) throws -> VisionSizes {
        let patch = try shape(patches, rank: 4)
        let side = Int(Double(try shape(positions, rank: rank)[rank - 2] - 1).squareRoot().rounded())
        guard 1...64 ~= side else {
            throw ModelError("\(origin): images of \(side) patches in a row, not of 1 to 64")
        }
        let heads = heads(patch[0])
        try validate(patch[0], heads: heads)
        return VisionSizes(
            width: patch[0], inner: try shape("\(prefix)0.\(mlp)", rank: 2)[0], layers: try layers(prefix), heads: heads,
            imageSize: side * patch[2], patchSize: patch[2])
    }

    /// Checks that `width` can be divided among `heads`.
    /// - Throws: `ModelError` that names the file.
    func validate(_ width: Int, heads: Int) throws {
        guard heads > 0, width.isMultiple(of: heads) else {
            throw ModelError("\(origin): \(owner) width \(width) cannot be divided among \(heads) heads")
        }
    }
}
