import Images
import Support

/// The final images of an epoch's N trajectories, and their scores.
package struct ScoredSamples: Sendable {
    /// The epoch, from 0.
    package let epoch: Int
    /// N images.
    package let images: ImageBatch
    /// [N]; of empty text for a model without text.
    package let prompts: [Prompt]
    /// [N]: the trajectories' numbers over the run, which rewards are given.
    package let ids: [UInt64]
    /// [N]: seeds of the generators that drew the trajectories' noise.
    package let seeds: [UInt64]
    /// The scores of the trajectories.
    package let scores: RolloutScores
}
