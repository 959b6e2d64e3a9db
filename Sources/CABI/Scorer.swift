import CDAGCore
import CFunctionReward
import Foundation
import Images
import Rewards
import Support

/// The object behind a `dag_scorer`: a reward without a trainer.
final class Scorer: @unchecked Sendable {
    private let evaluator: RewardEvaluator
    /// Calls wait for each other.
    private let use = NSLock()
    /// What the reward is, as JSON; lives as long as the scorer.
    let info: UnsafePointer<CChar>
    private let lent = Lent()

    /// Loads a reward.
    /// - Throws: `RewardError`.
    init(_ text: String) throws {
        let specification = try RewardSpecification(text)
        guard !specification.normalize else {
            throw RewardError("reward \(text): normalize=true takes the statistics of a training; leave it out")
        }
        let reward = try specification.load(opener: openLibrary)
        evaluator = try RewardEvaluator([(specification, reward)])
        let objectives = reward.objectives.map { ["name": $0.name, "direction": $0.direction.rawValue] }
        let object: [String: Any] = ["name": reward.name, "objectives": objectives]
        info = lent.copy(String(decoding: try JSONSerialization.data(withJSONObject: object, options: .sortedKeys), as: UTF8.self))
    }

    deinit { evaluator.abandonAndWait() }

    /// Scores a batch.
    /// - Throws: `RewardError`.
    func score(_ batch: RewardBatch) throws -> RewardReport { try use.withLock { try evaluator.score(batch) } }
}

extension RewardBatch {
    /// Copies a batch of the caller's.
    /// - Throws: `Refusal` that names what is wrong.
    init(_ batch: dag_reward_batch) throws {
        let count = Int(batch.count)
        let images = try read(batch.images, "batch->images")
        guard Int(images.format) == DAG_REWARD_U8_NHWC, images.strides.3 == 1, images.strides.2 == 3 else {
            throw Refusal(DAG_INVALID, "batch->images is not of the format DAG_REWARD_U8_NHWC, with strides[2] 3 and strides[3] 1")
        }
        guard let data = images.data else { throw Refusal.null("batch->images->data") }
        guard 1...1 << 24 ~= count, 1...65535 ~= images.height, 1...65535 ~= images.width else {
            throw Refusal(DAG_INVALID, "\(count) images of \(images.height) x \(images.width) pixels cannot be scored")
        }
        let (height, row) = (Int(images.height), Int(images.width) * 3)
        var pixels: [UInt8] = []
        for image in 0..<count {
            for y in 0..<height {
                let start = data + image * Int(images.strides.0) + y * Int(images.strides.1)
                pixels.append(contentsOf: UnsafeRawBufferPointer(start: start, count: row))
            }
        }
        func texts(_ list: UnsafePointer<dag_reward_text>?, _ name: String, missing: String) throws -> [String] {
            guard let list else { return Array(repeating: missing, count: count) }
            return try (0..<count).map { k in
                let bytes = UnsafeRawBufferPointer(start: list[k].data, count: list[k].data == nil ? 0 : list[k].size)
                guard let text = String(validating: bytes, as: UTF8.self) else { throw Refusal(DAG_INVALID, "\(name)[\(k)] is not UTF-8") }
                return text
            }
        }
        func numbers(_ list: UnsafePointer<UInt64>?) -> [UInt64] { (0..<count).map { list?[$0] ?? UInt64($0) } }
        let metadata = try texts(batch.metadata, "metadata", missing: "{}")
        for (k, text) in metadata.enumerated() where text != "{}" {
            guard (try? JSONSerialization.jsonObject(with: Data(text.utf8))) is [String: Any] else {
                throw Refusal(DAG_INVALID, "metadata[\(k)] is not a JSON object")
            }
        }
        try self.init(
            images: ImageBatch(pixels: pixels, count: count, height: height, width: Int(images.width)),
            prompts: zip(texts(batch.prompts, "prompts", missing: ""), metadata).map { Prompt($0, metadata: $1) },
            sampleIDs: numbers(batch.sample_ids), seeds: numbers(batch.seeds))
    }
}
