import Foundation

/// A number that was measured on random images.
package struct Estimate: Sendable, Equatable {
    /// NaN if there were too few images.
    package let value: Double
    /// The standard deviation over other images of the same prompts; nil for a number that has none.
    package let standardError: Double?

    /// - Parameter standardError: the standard deviation over other images; nil: none is known.
    package init(_ value: Double, standardError: Double? = nil) {
        self.value = value
        self.standardError = standardError
    }

    /// A number of one prompt's images.
    struct Part {
        /// NaN if the prompt has too few images; it is then left out.
        let value: Double
        /// The first-order change of the value with each image: its mean over the images is 0.
        let influences: [Double]
    }

    /// Averages over prompts, each of which counts the same. The prompts are taken as given, so that the
    /// error is that of the images alone.
    ///
    /// The variance of a part is that of the mean of its influences (the delta method, or infinitesimal
    /// jackknife: Efron 1982, chapter 6).
    init(averaging parts: [Part]) {
        let parts = parts.filter { !$0.value.isNaN }
        let count = Double(parts.count)
        value = parts.reduce(0) { $0 + $1.value } / count
        let variance = parts.reduce(0) { sum, part in
            let n = Double(part.influences.count)
            return sum + part.influences.reduce(0) { $0 + $1 * $1 } / (n * (n - 1))
        }
        standardError = variance.squareRoot() / count
    }

    /// The sum of two numbers that were measured on different images.
    static func + (one: Estimate, other: Estimate) -> Estimate {
        Estimate(one.value + other.value, standardError: hypot(one.standardError ?? 0, other.standardError ?? 0))
    }
}
