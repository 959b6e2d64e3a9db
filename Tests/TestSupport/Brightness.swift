import Images
import Rewards

/// The mean brightness of each image, in [0, 1].
@Sendable public func brightness(_ batch: RewardBatch) -> [Float] { (0..<batch.count).map { brightness(batch, $0) } }

/// The mean brightness of image `k` of a batch, in [0, 1].
public func brightness(_ batch: RewardBatch, _ k: Int) -> Float {
    Float(batch.images[k].reduce(0) { $0 + Int($1) }) / Float(batch.images.bytesPerImage * 255)
}

/// A reward of brightness alone.
public func brightness() throws -> RewardEvaluator {
    try RewardEvaluator([(RewardSpecification(library: "brightness"), CallbackReward(name: "brightness", body: brightness))])
}
