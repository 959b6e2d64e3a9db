/// Mean and deviation of a stream of numbers (Welford 1962).
package struct RunningMoments: Codable, Equatable, Sendable {
    private var count = 0.0
    private var mean = 0.0
    /// Sum of squared differences from the mean.
    private var squares = 0.0

    /// Starts without numbers.
    package init() {}

    /// Whether there were numbers.
    package var isEmpty: Bool { count == 0 }

    mutating func add(_ value: Float) {
        count += 1
        let difference = Double(value) - mean
        mean += difference / count
        squares += difference * (Double(value) - mean)
    }

    /// Normalised scores are clipped to this many standard deviations from the mean.
    private static let bound: Float = 10

    /// Returns the value in standard deviations from the mean; unchanged for fewer than two numbers.
    ///
    /// Where the deviation is no more than rounding of the mean, the mean is subtracted and nothing divided.
    func normalized(_ value: Float) -> Float {
        guard count >= 2 else { return value }
        let deviation = (squares / (count - 1)).squareRoot()
        let scaled = Float((Double(value) - mean) / (deviation > 1e-6 * abs(mean) ? deviation : 1))
        return scaled.magnitude > Self.bound ? Self.bound * (scaled < 0 ? -1 : 1) : scaled
    }
}
