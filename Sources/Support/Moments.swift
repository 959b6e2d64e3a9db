/// Mean and standard deviation of numbers, in double precision.
///
/// Everything that divides scores by their deviation takes it from here.
package struct Moments: Codable, Equatable, Sendable {
    /// NaN if there are no numbers.
    package let mean: Double
    /// Unbiased, as `torch.Tensor.std`. Zero for fewer than two numbers, and for numbers that are equal but for
    /// the rounding of 32-bit numbers of their size.
    package let deviation: Double

    /// The deviation, as a part of the mean, that rounding may have made.
    private static let rounding = 1e-6

    /// Takes both from sums.
    /// - Parameters:
    ///   - count: how many numbers there are.
    ///   - squares: sum of the squared differences from the mean.
    package init(count: Double, mean: Double, squares: Double) {
        let deviation = (squares / max(1, count - 1)).squareRoot()
        self.mean = mean
        self.deviation = deviation <= Self.rounding * mean.magnitude ? 0 : deviation
    }

    /// Computes both over all values that are not NaN.
    package init(_ all: [some BinaryFloatingPoint]) {
        let values = all.filter { !$0.isNaN }.map { Double($0) }
        let count = Double(values.count)
        let mean = values.reduce(0, +) / count
        self.init(count: count, mean: mean, squares: values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) })
    }
}
