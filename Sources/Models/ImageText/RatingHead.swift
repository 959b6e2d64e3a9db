import NN
import Tensors

/// The head of LAION's aesthetic predictor and of ImageReward: maps a feature vector to one number.
package struct RatingHead {
    private let layers: [Linear]

    /// Builds the layers of a torch.nn.Sequential, whose children are under `scope`.
    /// - Parameter width: of a feature vector.
    package init(_ width: Int, _ scope: Scope) {
        let widths = [width, 1024, 128, 64, 16, 1]
        // Children 1, 3 and 5 are dropout, which does nothing after training.
        layers = zip([0, 2, 4, 6, 7], zip(widths, widths.dropFirst())).map { Linear($1.0, $1.1, scope / $0) }
    }

    /// Maps float32 [n, width] to [n].
    package func callAsFunction(_ features: Tensor) -> Tensor { layers.reduce(features) { $1($0) }.reshape([-1]) }
}
