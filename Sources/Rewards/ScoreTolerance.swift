/// Which scores are the same but for rounding, which changes with the place in a batch: those that differ by no more than 0.1% of what
/// scores of their objective differ among themselves, and what sums of so large numbers are rounded by.
public struct ScoreTolerance: Sendable {
    private let tolerances: [Float]

    /// - Parameter scores: `[count, objectives]`, to take the measure from.
    public init(_ scores: [Float], objectives: Int) {
        tolerances = (0..<objectives).map { objective in
            let column = stride(from: objective, to: scores.count, by: objectives).map { scores[$0] }.filter(\.isFinite)
            guard let least = column.min(), let most = column.max() else { return 0 }
            return 1e-3 * (most - least) + 32 * max(abs(least), abs(most)).ulp
        }
    }

    /// The first place where two answers `[any count, objectives]` differ; nil if they do not. NaN, for no score, is compared with nothing.
    public func firstDifference(_ one: [Float], _ other: [Float]) -> Int? {
        zip(one, other).enumerated().first { abs($1.0 - $1.1) > tolerances[$0 % tolerances.count] }?.offset
    }
}
