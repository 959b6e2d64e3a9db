import Tensors

/// The shapes of a checkpoint's tensors, off which a model reads its sizes.
struct CheckpointShapes {
    let tensors: [String: Tensor]
    /// The file, and whose weights it is to hold, for messages.
    let origin, owner: String

    /// The shape of a tensor of so many dimensions.
    func shape(_ name: String, rank: Int) throws -> [Int] {
        guard let shape = tensors[name]?.shape else { throw ModelError("\(origin): has no \(name), so it is not \(owner)") }
        guard shape.count == rank, shape.allSatisfy({ $0 > 0 }) else { throw ModelError("\(origin): \(name) has the shape \(shape)") }
        return shape
    }

    /// How many layers are numbered after `prefix`.
    func layers(_ prefix: String) throws -> Int {
        let found = Set(tensors.keys.compactMap { $0.hasPrefix(prefix) ? Int($0.dropFirst(prefix.count).prefix { $0 != "." }) : nil })
        guard 1..<1000 ~= found.count, found == Set(0..<found.count) else {
            throw ModelError("\(origin): the layers of \(prefix) are not numbered from 0 on, or are too many")
        }
        return found.count
    }

    /// A vision transformer.
    /// - Parameters:
    ///   - patches: the convolution that cuts pictures up, [width, 3, patch, patch].
    ///   - positions: [..., tokens, width], of `rank` dimensions.
    ///   - prefix: what stands before a layer's number.
    ///   - mlp: the first matrix of a layer's MLP, [inner, width].
    ///   - heads: how many there are at a width.
    func vision(
        patches: String, positions: String, rank: Int, layers prefix: String, mlp: String, heads: (_ width: Int) -> Int
    ) throws -> VisionSizes {
        let patch = try shape(patches, rank: 4)
        let side = Int(Double(try shape(positions, rank: rank)[rank - 2] - 1).squareRoot().rounded())
        guard 1...64 ~= side else { throw ModelError("\(origin): pictures of \(side) patches in a row, not of 1 to 64") }
        let heads = heads(patch[0])
        try check(patch[0], heads: heads)
        return VisionSizes(
            width: patch[0], inner: try shape("\(prefix)0.\(mlp)", rank: 2)[0], layers: try layers(prefix), heads: heads,
            imageSize: side * patch[2], patchSize: patch[2])
    }

    /// Throws unless `width` can be divided among `heads`.
    func check(_ width: Int, heads: Int) throws {
        guard heads > 0, width.isMultiple(of: heads) else {
            throw ModelError("\(origin): \(owner) width \(width) cannot be divided among \(heads) heads")
        }
    }
}
