import CDAGCore
import Dispatch
import Images

/// A `score` function as `dag_reward.h` describes it, with its instance.
package struct ScoreFunction {
    /// Images that it takes in one call; 0: any number.
    let largestBatch: Int
    /// Seconds after which it is asked to give up on a batch; nil: never.
    let timeout: Double?
    let function: Function

    /// Scores a batch and returns a status, as `dag_reward.h` describes it.
    package typealias Function = (
        UnsafePointer<dag_reward_batch>, UnsafePointer<dag_reward_result>, UnsafeMutablePointer<dag_reward_error>
    ) -> Int32

    /// - Parameters:
    ///   - largestBatch: images that it takes in one call; 0: any number.
    ///   - timeout: seconds after which it is asked to give up on a batch; nil: never.
    package init(largestBatch: Int, timeout: Double?, function: @escaping Function) {
        self.largestBatch = largestBatch
        self.timeout = timeout
        self.function = function
    }

    /// Scores a batch, in parts of the largest batch.
    /// - Throws: `RewardError` that says on which samples the function failed and why.
    package func result(_ batch: RewardBatch, of reward: some Reward) throws -> RewardResult {
        let objectives = reward.objectives
        let unwritten = Float(bitPattern: DAG_REWARD_UNWRITTEN)
        var scores = [Float](repeating: unwritten, count: batch.count * objectives.count)
        var statuses = [Int32](repeating: Int32(DAG_REWARD_OK), count: batch.count)
        var reasons: [Int: String] = [:]
        // One deadline for all parts: the caller waits for the batch.
        let deadline = timeout.map { DispatchTime.now().uptimeNanoseconds + UInt64(max(0, $0) * 1e9) } ?? 0
        let prompts = BorrowedTexts(batch.prompts.map(\.text))
        let metadata = BorrowedTexts(batch.prompts.map(\.metadata))
        try prompts.withTexts { prompts in
            try metadata.withTexts { metadata in
                let largest = largestBatch == 0 ? batch.count : largestBatch
                for start in stride(from: 0, to: batch.count, by: largest) {
                    let count = min(largest, batch.count - start)
                    let note = try RewardHost.call("reward \(reward.name) failed on \(batch.names(start..<start + count))") { error in
                        call(batch, start, count, objectives.count, prompts, metadata, &scores, &statuses, deadline, error)
                    }
                    let failed = (start..<start + count).filter { statuses[$0] != Int32(DAG_REWARD_OK) }
                    for sample in failed {
                        let status = RewardHost.describe(statuses[sample])
                        if note.isEmpty {
                            reasons[sample] = status
                        } else if failed.count == 1 {
                            reasons[sample] = note
                        } else {
                            // A call has one message, which may be about any of them.
                            reasons[sample] = "\(status); one message for the \(failed.count) that failed in this call: \(note)"
                        }
                    }
                }
            }
        }
        for (index, score) in scores.enumerated()
        where score.bitPattern == unwritten.bitPattern && reasons[index / objectives.count] == nil {
            reasons[index / objectives.count] =
                "\(objectives[index % objectives.count].name) is unwritten; a reward must write every score"
        }
        return RewardResult(values: scores, reasons: reasons)
    }

    /// Scores samples `start..<start + count` in one call.
    /// - Parameter deadline: on the monotonic clock, nanoseconds; 0: none.
    private func call(
        _ samples: RewardBatch, _ start: Int, _ count: Int, _ objectives: Int, _ prompts: UnsafePointer<dag_reward_text>,
        _ metadata: UnsafePointer<dag_reward_text>, _ scores: UnsafeMutablePointer<Float>, _ statuses: UnsafeMutablePointer<Int32>,
        _ deadline: UInt64, _ error: UnsafeMutablePointer<dag_reward_error>
    ) -> Int32 {
        let source = samples.images
        return source.withUnsafeBytes { pixels in
            samples.sampleIDs.withUnsafeBufferPointer { ids in
                samples.seeds.withUnsafeBufferPointer { seeds in
                    var images = dag_reward_images(
                        struct_size: UInt32(MemoryLayout<dag_reward_images>.size), format: Int32(DAG_REWARD_U8_NHWC),
                        data: pixels.baseAddress! + start * source.bytesPerImage,
                        height: UInt32(source.height), width: UInt32(source.width),
                        strides: (Int64(source.bytesPerImage), Int64(source.width * 3), 3, 1))
                    return withUnsafePointer(to: &images) { images in
                        var batch = dag_reward_batch(
                            struct_size: UInt32(MemoryLayout<dag_reward_batch>.size), count: UInt32(count), images: images,
                            prompts: prompts + start, metadata: metadata + start, sample_ids: ids.baseAddress! + start,
                            seeds: seeds.baseAddress! + start, deadline: deadline)
                        var result = dag_reward_result(
                            struct_size: UInt32(MemoryLayout<dag_reward_result>.size), objective_count: UInt32(objectives),
                            scores: scores + start * objectives, statuses: statuses + start)
                        return function(&batch, &result, error)
                    }
                }
            }
        }
    }
}
