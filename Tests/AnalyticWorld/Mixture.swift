import Foundation

/// A mixture of Gaussians on the line.
package struct Mixture: Sendable {
    /// Weights, which add up to 1, and means.
    package let components: [(weight: Double, mean: Double)]
    /// Standard deviation of all components.
    package let deviation: Double

    /// The density's logarithm at a point.
    package func logDensity(_ x: Double) -> Double {
        let terms = components.map { weight, mean in
            log(weight) - (x - mean) * (x - mean) / (2 * deviation * deviation) - 0.5 * log(2 * .pi * deviation * deviation)
        }
        let largest = terms.max() ?? -.infinity
        return largest + log(terms.reduce(0) { $0 + exp($1 - largest) })
    }
}
