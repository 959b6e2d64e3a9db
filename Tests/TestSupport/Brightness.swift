import Images
import Rewards

/// The mean brightness of each image, in [0, 1].
@Sendable package func brightness(_ batch: RewardBatch) -> [Float] { (0..<batch.count).map { brightness(batch, $0) } }

/// The mean brightness of image `k` of a batch, in [0, 1].
package func brightness(_ batch: RewardBatch, _ k: Int) -> Float {
    Float(batch.images[k].reduce(0) { $0 + Int($1) }) / Float(batch.images.bytesPerImage * 255)
}

/// A reward of brightness alone.
/// - Parameter count: receives the number of images of each batch.
package func brightness(count: @escaping @Sendable (Int) -> Void = { _ in }) throws -> RewardEvaluator {
    let reward = CallbackReward(name: "brightness") { batch in
        count(batch.count)
        return brightness(batch)
    }
    return try RewardEvaluator([(RewardSpecification(library: "brightness"), reward)])
}
