/// The difference up to which two scores count as the same: rounding changes with the place in a batch.
///
/// It is 0.1% of the range of the objective's scores, and the rounding of sums of numbers of their size.
package struct ScoreTolerance: Sendable {
    private let tolerances: [Float]

    /// - Parameter scores: `[count, objectives]`, row-major, which the ranges are taken from.
    package init(_ scores: [Float], objectives: Int) {
        tolerances = (0..<objectives).map { objective in
            let column = stride(from: objective, to: scores.count, by: objectives).map { scores[$0] }.filter(\.isFinite)
            guard let least = column.min(), let most = column.max() else { return 0 }
            return 1e-3 * (most - least) + 32 * max(abs(least), abs(most)).ulp
        }
    }

    /// Returns the first index at which two answers `[any count, objectives]` differ; nil: none. NaN, for no
    /// score, equals everything.
    package func firstDifference(_ one: [Float], _ other: [Float]) -> Int? {
        zip(one, other).enumerated().first { abs($1.0 - $1.1) > tolerances[$0 % tolerances.count] }?.offset
    }
}
