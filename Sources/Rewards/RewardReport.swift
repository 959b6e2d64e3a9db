/// What the rewards say about a batch.
public struct RewardReport: Sendable {
    /// `[count]`: the sum over rewards of weight times trained objective, where a minimised objective is negated. Larger is better.
    /// NaN for a sample that is dropped.
    public let reward: [Float]
    /// Every objective of every reward that was asked, as it was given, `[count]` each, by names such as `warmth/red`; NaN where there is none.
    public let objectives: [String: [Float]]
    /// Samples that a reward could not score and for which a number was assumed.
    public let imputed: Int
    /// Why samples have no score of some reward, by their place in the batch: lines that name reward and sample.
    public let failures: [Int: String]
    /// Wall-clock time of scoring.
    public let seconds: Double
}

extension RewardReport {
    /// The first sample that a reward could not score, and why.
    public var firstFailure: String? { failures.min { $0.key < $1.key }?.value }

    /// Several batches as one.
    public init(concatenating parts: [RewardReport]) {
        var (failures, offset) = ([Int: String](), 0)
        for part in parts {
            for (place, reason) in part.failures { failures[offset + place] = reason }
            offset += part.reward.count
        }
        self.init(
            reward: parts.flatMap(\.reward),
            objectives: Dictionary(
                uniqueKeysWithValues: (parts.first?.objectives.keys ?? [:].keys).map { name in
                    (name, parts.flatMap { $0.objectives[name]! })
                }),
            imputed: parts.reduce(0) { $0 + $1.imputed }, failures: failures,
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

    /// How many standard deviations from the mean are told apart.
    private static let bound: Float = 10

    /// The value in standard deviations from the mean, of which ten are the most; unchanged as long as there are too few numbers to tell.
    /// Numbers that differ by no more than they are rounded have no deviation to speak of: their mean alone is taken away then.
    func normalized(_ value: Float) -> Float {
        guard count >= 2 else { return value }
        let deviation = (squares / (count - 1)).squareRoot()
        let scaled = Float((Double(value) - mean) / (deviation > 1e-6 * abs(mean) ? deviation : 1))
        return scaled.magnitude > Self.bound ? Self.bound * (scaled < 0 ? -1 : 1) : scaled
    }
}
