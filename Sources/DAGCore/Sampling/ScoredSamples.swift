import Images

/// The final pictures of an epoch's N trajectories, and what the rewards say of them.
public struct ScoredSamples: Sendable {
    /// Which epoch's, from 0.
    public let epoch: Int
    /// N pictures.
    public let images: ImageBatch
    /// [N]; empty strings for a model without text.
    public let prompts: [String]
    /// [N]: the trajectories' numbers over the run, as rewards are told them.
    public let ids: [UInt64]
    /// [N]: of the generators that drew the trajectories' noise.
    public let seeds: [UInt64]
    /// [N]: the trained reward; NaN for a trajectory that was dropped.
    public let rewards: [Float]
    /// Every objective of every reward, [N] each; NaN where there is none.
    public let objectives: [(name: String, scores: [Float])]
}
