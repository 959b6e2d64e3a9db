import Foundation

/// Weights that turn samples of one density into samples of another, normalised to add up to 1.
///
/// With w_i = exp(l_i) / sum of exp(l_j), sums of w_i f(x_i) are means of f under the density that is in
/// proportion to the samples' own times exp(l).
package struct ImportanceWeights: Sendable {
    /// One for each sample. 0 for a sample without a weight.
    package let weights: [Double]
    /// Number of samples that have a weight.
    package let count: Int
    /// log of the mean of exp(l): an estimate of log Z. NaN if no sample has a weight.
    package let logMean: Double

    /// Normalises the weights of one group, of any size and range: nothing overflows.
    /// - Parameter logWeights: l, one for each sample; NaN for a sample that is left out.
    package init(logWeights: [Double]) {
        let kept = logWeights.filter { !$0.isNaN }
        count = kept.count
        guard let largest = kept.max() else {
            weights = logWeights.map { _ in 0 }
            logMean = .nan
            return
        }
        let scaled = logWeights.map { $0.isNaN ? 0 : exp($0 - largest) }
        let sum = scaled.reduce(0, +)
        weights = scaled.map { $0 / sum }
        logMean = largest + log(sum / Double(kept.count))
    }

    /// Normalises the weights within each group.
    /// - Parameters:
    ///   - logWeights: as for one group, of all samples.
    ///   - groups: each sample's group, such as its prompt.
    /// - Returns: one weight for each sample, in order; those of a group add up to 1.
    package static func perGroup(logWeights: [Double], groups: [some Hashable]) -> [Double] {
        var weights = [Double](repeating: 0, count: logWeights.count)
        for places in Dictionary(grouping: logWeights.indices, by: { groups[$0] }).values {
            let own = ImportanceWeights(logWeights: places.map { logWeights[$0] })
            for (place, weight) in zip(places, own.weights) { weights[place] = weight }
        }
        return weights
    }

    private var squares: Double { weights.reduce(0) { $0 + $1 * $1 } }

    /// Effective sample size 1 / sum of w^2 (Kish 1965): as many equally weighted samples tell as much. From
    /// 1 to `count`; 0 if no sample has a weight.
    package var effectiveCount: Double { squares > 0 ? 1 / squares : 0 }

    /// The weights w (1 + w - sum of w^2), which also add up to 1. Means under them lack the bias, of order
    /// 1 / n, that normalising by the samples' own sum gives: to that order it is the sum of w^2 (mean - f).
    package var corrected: [Double] {
        let squares = squares
        return weights.map { $0 * (1 + $0 - squares) }
    }

    /// The bias of `logMean` to order 1 / n, negated: half the relative variance of the mean of exp(l).
    private var correction: Double { (squares - 1 / Double(count)) / 2 }

    /// log Z: `logMean` without its bias of order 1 / n.
    package var logZ: Double { logMean + correction }

    /// Estimates KL(target || samples' own density), nats: the mean of l, less log Z.
    package var divergence: Double {
        zip(corrected, weights).reduce(0) { $1.1 > 0 ? $0 + $1.0 * log($1.1 * Double(count)) : $0 } - correction
    }

    /// Draws samples in proportion to their weights, each at most one more or less often than its share
    /// (systematic resampling).
    /// - Parameters:
    ///   - number: how many.
    ///   - offset: a number from 0 to 1, the only chance in it.
    /// - Returns: places of samples, ascending; none if no sample has a weight.
    package func resampled(_ number: Int, offset: Double) -> [Int] {
        var places: [Int] = []
        var sum = 0.0
        for (place, weight) in weights.enumerated() {
            sum += weight
            while places.count < number, (Double(places.count) + offset) / Double(number) < sum { places.append(place) }
        }
        // The last sum may be below 1 by rounding.
        if let last = weights.lastIndex(where: { $0 > 0 }) { while places.count < number { places.append(last) } }
        return places
    }
}
