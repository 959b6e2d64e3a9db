import NN
import Tensors

/// The head of LAION's aesthetic predictor and of ImageReward: from a feature vector to one number.
public struct RatingHead {
    private let layers: [Linear]

    /// - Parameters: width of the features, and where torch.nn.Sequential's children are.
    public init(_ width: Int, _ scope: Scope) {
        let widths = [width, 1024, 128, 64, 16, 1]
        // Dropout is at 1, 3 and 5.
        layers = zip([0, 2, 4, 6, 7], zip(widths, widths.dropFirst())).map { Linear($1.0, $1.1, scope / $0) }
    }

    /// Float32 [n, width] to [n].
    public func callAsFunction(_ features: Tensor) -> Tensor { layers.reduce(features) { $1($0) }.reshape([-1]) }
}
