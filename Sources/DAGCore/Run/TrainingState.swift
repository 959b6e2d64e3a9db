import Rewards

/// The state of a run beside its tensors and its algorithm's own: exactly the numbers that a checkpoint
/// holds. Random numbers need no state: see `Seeds`.
struct TrainingState: Codable, Equatable {
    /// Epochs done.
    var epoch = 0
    /// Optimiser steps done in the epoch that is under way.
    var update = 0
    /// Optimiser steps done in the whole run.
    var step = 0
    var watch = RewardWatch()
    /// Running statistics of the rewards, for those that are normalised.
    var rewardMoments: [RunningMoments] = []
    /// Length of metrics.jsonl, bytes.
    var metricsLength: UInt64 = 0
}
