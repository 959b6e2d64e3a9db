/// What the rewards say about a batch.
public struct RewardReport: Sendable {
    /// `[count]`: the sum over rewards of weight times trained objective, where a minimised objective is negated. Larger is better.
    /// NaN for a sample that is dropped.
    public let reward: [Float]
    /// Every objective of every reward that was asked, as it was given, `[count]` each, by names such as `warmth/red`; NaN where there is none.
    public let objectives: [String: [Float]]
    /// Samples that a reward could not score and for which a number was assumed.
    public let imputed: Int
    /// The first sample that a reward could not score, and why.
    public let firstFailure: String?
    /// Wall-clock time of scoring.
    public let seconds: Double
}

extension RewardReport {
    /// Several batches as one.
    public init(concatenating parts: [RewardReport]) {
        self.init(
            reward: parts.flatMap(\.reward),
            objectives: Dictionary(
                uniqueKeysWithValues: (parts.first?.objectives.keys ?? [:].keys).map { name in
                    (name, parts.flatMap { $0.objectives[name]! })
                }),
            imputed: parts.reduce(0) { $0 + $1.imputed }, firstFailure: parts.lazy.compactMap(\.firstFailure).first,
            seconds: parts.reduce(0) { $0 + $1.seconds })
    }
}

/// Mean and deviation of numbers as they come (Welford 1962).
public struct RunningMoments: Codable, Equatable, Sendable {
    private var count = 0.0
    private var mean = 0.0
    /// Sum of squared differences from the mean.
    private var squares = 0.0

    /// Of nothing yet.
    public init() {}

    /// Whether there were numbers.
    public var isEmpty: Bool { count == 0 }

    mutating func add(_ value: Float) {
        count += 1
        let difference = Double(value) - mean
        mean += difference / count
        squares += difference * (Double(value) - mean)
    }

    /// The value in standard deviations from the mean; unchanged as long as there are too few numbers to tell.
    func normalized(_ value: Float) -> Float {
        let deviation = (squares / max(1, count - 1)).squareRoot()
        return count < 2 ? value : Float((Double(value) - mean) / max(deviation, 1e-8))
    }
}
