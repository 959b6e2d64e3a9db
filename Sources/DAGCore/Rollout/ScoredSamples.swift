import Images

/// The final images of an epoch's N trajectories, and their scores.
public struct ScoredSamples: Sendable {
    /// The epoch, from 0.
    public let epoch: Int
    /// N images.
    public let images: ImageBatch
    /// [N]; empty strings for a model without text.
    public let prompts: [String]
    /// [N]: the trajectories' numbers over the run, as rewards are told them.
    public let ids: [UInt64]
    /// [N]: seeds of the generators that drew the trajectories' noise.
    public let seeds: [UInt64]
    /// The scores of the trajectories.
    public let scores: RolloutScores
}
