/// Mean and standard deviation of numbers that are not NaN.
package struct Moments: Codable, Equatable, Sendable {
    /// NaN if there are no numbers.
    package let mean: Float
    /// Unbiased, as `torch.Tensor.std`; zero for fewer than two numbers.
    package let deviation: Float

    /// Computes both over all values that are not NaN.
    package init(_ all: [Float]) {
        let values = all.filter { !$0.isNaN }
        let mean = values.reduce(0, +) / Float(values.count)
        let squares = values.map { ($0 - mean) * ($0 - mean) }.reduce(0, +)
        self.mean = mean
        deviation = (squares / Float(max(1, values.count - 1))).squareRoot()
    }
}
