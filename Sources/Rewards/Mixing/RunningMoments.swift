import Support

/// Mean and deviation of a stream of scores (Welford 1962) that single scores far from all others hardly
/// change.
package struct RunningMoments: Codable, Equatable, Sendable {
    private var count = 0.0
    private var mean = 0.0
    /// Sum of squared differences from the mean.
    private var squares = 0.0

    /// Starts without numbers.
    package init() {}

    /// Whether there were numbers.
    package var isEmpty: Bool { count == 0 }

    /// Normalised scores are clipped to this many standard deviations from the mean.
    static let bound: Float = 10

    /// Adds an epoch's scores.
    ///
    /// A score counts as no farther from the mean than a normalised score can be: were 1e30 taken as it is, all
    /// other scores would be normalised to the same number from then on. Until there is a deviation, median and
    /// median distance of the scores themselves stand for mean and deviation.
    mutating func add(_ scores: [Float]) {
        let values = scores.map(Double.init)
        let centre: Double
        let reach: Double
        if moments.deviation > 0 {
            centre = mean
            reach = Double(Self.bound) * moments.deviation
        } else {
            centre = Self.median(values)
            // The deviation of normally distributed numbers is 1.4826 times their median distance, which is zero
            // where most scores are equal; it says nothing of the others then.
            let distance = Self.median(values.map { ($0 - centre).magnitude })
            reach = distance > 0 ? Double(Self.bound) * 1.4826 * distance : .infinity
        }
        for value in values { add(min(max(value, centre - reach), centre + reach)) }
    }

    private mutating func add(_ value: Double) {
        count += 1
        let difference = value - mean
        mean += difference / count
        squares += difference * (value - mean)
    }

    /// Returns the value in standard deviations from the mean; unchanged for fewer than two numbers.
    ///
    /// Where the deviation is no more than rounding, the mean is subtracted and nothing divided.
    func normalized(_ value: Float) -> Float {
        guard count >= 2, !value.isNaN else { return value }
        let deviation = moments.deviation
        return min(max(Float((Double(value) - mean) / (deviation > 0 ? deviation : 1)), -Self.bound), Self.bound)
    }

    private var moments: Moments { Moments(count: count, mean: mean, squares: squares) }

    /// The middle one of the sorted values, the upper of two; NaN if there are none.
    private static func median(_ values: [Double]) -> Double { values.isEmpty ? .nan : values.sorted()[values.count / 2] }
}
