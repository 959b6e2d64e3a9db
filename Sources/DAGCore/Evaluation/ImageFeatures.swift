import Images
import Models
import Rewards
import Support
import Tensors

/// Features of images by a network that saw others: see `FeatureExtractor`.
package struct ImageFeatures: Sendable {
    /// The network and its sizes, for people.
    package let network: String
    /// [N][size].
    let vectors: [[Double]]
    /// The same, scaled to length one.
    let directions: [[Double]]

    /// - Parameter vectors: one for each image, all of one length.
    package init(_ vectors: [[Double]], network: String) {
        self.network = network
        self.vectors = vectors
        directions = vectors.map { vector in
            let length = max(1e-12, vector.reduce(0) { $0 + $1 * $1 }.squareRoot())
            return vector.map { $0 / length }
        }
    }

    /// Computes the features of images, a few at a time.
    /// - Throws: `TensorError`, `Cancelled`; `ModelError` if a feature is not finite.
    package init(of images: ImageBatch, _ extractor: FeatureExtractor, batch: Int, monitor: Monitor) throws {
        var vectors: [[Double]] = []
        for places in Array(0..<images.count).chunks(of: batch) {
            try monitor.throwIfCancelled()
            let values = try images.withUnsafeBytes { bytes in
                guard let base = bytes.baseAddress else { throw ModelError("images without memory have no features") }
                let all = BorrowedImages(
                    base: base, count: images.count, height: images.height, width: images.width, imageStride: images.bytesPerImage,
                    rowStride: images.width * 3)
                return try extractor(all.part(places[0]..<places[0] + places.count)).array(Float.self)
            }
            guard values.allSatisfy(\.isFinite) else {
                throw ModelError("\(extractor.summary): its features are not finite; is the folder whole?")
            }
            let size = values.count / places.count
            vectors += places.indices.map { values[$0 * size..<($0 + 1) * size].map(Double.init) }
            monitor.report(.evaluating, vectors.count, of: images.count)
        }
        self.init(vectors, network: extractor.summary)
    }
}

/// The mean and the covariance of weighted features, as of a normal distribution.
struct FeatureDistribution {
    /// Whether more than one image counts: else there is no covariance.
    private let isSpread: Bool
    /// float64 [1, size].
    private let mean: Tensor
    /// float64 [size, size].
    private let covariance: Tensor

    /// - Parameters:
    ///   - vectors: [N][size].
    ///   - weights: [N], that add up to 1. Where all are equal the covariance is divided by N - 1, as numpy's `cov` does.
    init(_ vectors: [[Double]], weights: [Double]) {
        let size = vectors[0].count
        let pairs = 1 - weights.reduce(0) { $0 + $1 * $1 }
        isSpread = pairs > 1e-9
        let all = Tensor(vectors.flatMap(\.self), shape: [vectors.count, size])
        let column = Tensor(weights, shape: [vectors.count, 1])
        mean = (all * column).sum([0], keepDims: true)
        let deviations = (all - mean) * column.sqrt()
        covariance = deviations.transpose(0, 1).matmul(deviations) / pairs
    }

    /// The trace of a square matrix.
    private static func trace(_ matrix: Tensor) throws -> Double {
        let numbers = try matrix.contiguous().array(Double.self)
        return stride(from: 0, to: numbers.count, by: matrix.size(0) + 1).reduce(0) { $0 + numbers[$1] }
    }

    /// The Frechet distance between normal distributions,
    /// |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) (Heusel et al. 2017, equation 6).
    ///
    /// (S1 S2)^(1/2) has the trace of (R S2 R)^(1/2), where R is the root of S1: both are roots of symmetric matrices.
    /// - Returns: NaN if one of them is of a single image.
    /// - Throws: `TensorError` if an operation failed.
    func frechetDistance(to other: FeatureDistribution) throws -> Double {
        guard isSpread, other.isSpread else { return .nan }
        let root = covariance.matrixSquareRoot()
        let product = root.matmul(other.covariance).matmul(root)
        // Symmetric but for rounding.
        let mixed = ((product + product.transpose(0, 1)) / 2).matrixSquareRoot()
        let shift = try (mean - other.mean).square().sum().item()
        let distance = try shift + Self.trace(covariance) + Self.trace(other.covariance) - 2 * Self.trace(mixed)
        return max(0, distance)
    }
}
