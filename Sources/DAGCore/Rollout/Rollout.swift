import Images
import Rewards
import Support
import Tensors

/// The scores of N trajectories.
package struct RolloutScores: Sendable, Equatable {
    /// The trained score of the final images [N]; NaN for dropped trajectories, which have an unscored image.
    package var final: [Float]
    /// The trained score of the predicted data at the states with a flow before the end, from noise to data,
    /// [states][N]; empty without lookahead.
    package var lookahead: [[Float]]
    /// Every objective of every reward on the final images, [N] each; NaN where there is no score.
    package var objectives: [ObjectiveScores]
    /// Number of scores that were assumed because a reward could not score an image.
    package var imputed: Int
    /// The first image that a reward could not score, and the reason.
    package var firstFailure: String?

    /// Number of dropped trajectories.
    package var dropped: Int { final.count { $0.isNaN } }

    init(final: [Float], lookahead: [[Float]], objectives: [ObjectiveScores] = [], imputed: Int = 0, firstFailure: String? = nil) {
        self.final = final
        self.lookahead = lookahead
        self.objectives = objectives
        self.imputed = imputed
        self.firstFailure = firstFailure
    }

    /// Joins the reports on final images and predicted data. A trajectory needs a score for each.
    init(final report: RewardReport, lookahead: [RewardReport]) {
        let all = [report] + lookahead
        self.init(
            final: report.reward.indices.map { k in lookahead.contains { $0.reward[k].isNaN } ? .nan : report.reward[k] },
            lookahead: lookahead.map(\.reward), objectives: report.objectives, imputed: all.reduce(0) { $0 + $1.imputed },
            firstFailure: all.lazy.compactMap(\.firstFailure).first)
    }

    init(concatenating parts: [RolloutScores]) {
        self.init(
            final: parts.flatMap(\.final), lookahead: parts[0].lookahead.indices.map { k in parts.flatMap { $0.lookahead[k] } },
            objectives: parts[0].objectives.indices.map { k in
                ObjectiveScores(parts[0].objectives[k].name, parts.flatMap { $0.objectives[k].scores })
            },
            imputed: parts.reduce(0) { $0 + $1.imputed }, firstFailure: parts.lazy.compactMap(\.firstFailure).first)
    }
}

/// Trajectories of the current policy, from noise to data: the data of an epoch of training.
///
/// Prompts, scores and images are of all N trajectories; tensors are of those M that this process trains on.
package struct Rollout: Codable {
    /// One prompt for each of the N trajectories; of empty text for a model without text.
    package var prompts: [Prompt]
    /// The trajectories whose states lie here, [M]: their places in the epoch, ascending.
    package var held: [Int]
    /// The T + 1 states x_T ... x_0, float32 [M, C, H, W] each.
    package var states: [Tensor] = []
    /// log P_F of the T transitions at rollout, float32 [M] each.
    package var logForward: [Tensor] = []
    /// The guided network output at the first T states, float32 [M, C, H, W] each.
    package var guided: [Tensor] = []
    /// log P_F of the pretrained model, float32 [M] each; empty unless the target is anchored to it.
    package var logReference: [Tensor] = []
    /// The scores of the trajectories.
    package var scores = RolloutScores(final: [], lookahead: [])
    /// The final images; nil for a rollout that was read from a checkpoint of 0.1.0.
    package var images: ImageBatch?

    /// Number of trajectories.
    package var count: Int { prompts.count }

    /// Returns the rows of the tensors that are those of some trajectories.
    func rows(of trajectories: [Int]) -> [Int] {
        let rows = Dictionary(uniqueKeysWithValues: zip(held, 0...))
        return trajectories.map { rows[$0]! }
    }

    /// Returns the rollout with all tensors on a device.
    func moved(to device: Device) -> Rollout {
        var moved = self
        moved.takeStates(of: self, held: held) { $0.to(device) }
        return moved
    }

    /// Takes the tensors of another rollout, each changed by `change`, as those of some trajectories.
    mutating func takeStates(of other: Rollout, held: [Int], _ change: (Tensor) -> Tensor) {
        self.held = held
        states = other.states.map(change)
        logForward = other.logForward.map(change)
        guided = other.guided.map(change)
        logReference = other.logReference.map(change)
    }
}

extension Rollout {
    /// Joins batches, or the parts of several ranks.
    /// - Throws: `ImageError` if their images differ in size.
    init(concatenating parts: [Rollout]) throws {
        func columns(_ get: (Rollout) -> [Tensor]) -> [Tensor] {
            get(parts[0]).indices.map { k in Tensor.cat(parts.map { get($0)[k] }, 0) }
        }
        self.init(
            prompts: parts.flatMap(\.prompts), held: parts.flatMap(\.held), states: columns(\.states), logForward: columns(\.logForward),
            guided: columns(\.guided), logReference: columns(\.logReference), scores: RolloutScores(concatenating: parts.map(\.scores)),
            images: try parts[0].images.map { _ in try ImageBatch(concatenating: parts.compactMap(\.images)) })
    }
}
