import Foundation
@testable import Images
@testable import Rewards

/// What a call costs beyond the scoring: a plugin that does nothing, in this process, in a worker, and as a Python function.
enum Overhead {
    private static let plugin = """
        #include "dag_reward.h"
        static int32_t create(const dag_reward_host *h, const dag_reward_config *c, void **i, dag_reward_error *e) { return DAG_REWARD_OK; }
        static int32_t score(void *i, const dag_reward_batch *batch, const dag_reward_result *result, dag_reward_error *e) {
            for (uint32_t n = 0; n < batch->count; n++) result->scores[n] = 0;
            return DAG_REWARD_OK;
        }
        static void destroy(void *i) {}
        static const dag_reward_objective objectives[] = {{sizeof(dag_reward_objective), DAG_REWARD_MAXIMIZE, "zero", "0"}};
        static const int32_t formats[] = {DAG_REWARD_U8_NHWC};
        static const char *const devices[] = {"cpu"};
        static const dag_reward_info info = {.struct_size = sizeof info, .name = "nothing", .version = "1", .description = "does nothing",
            .license = "Apache-2.0", .source = "benchmark", .objective_count = 1, .objectives = objectives, .image_format_count = 1,
            .image_formats = formats, .device_count = 1, .devices = devices};
        DAG_REWARD_PLUGIN(info, create, score, destroy, NULL)
        """

    static func run(calls: Int, python: String, folder: URL) throws {
        let source = folder.appendingPathComponent("nothing.c")
        try plugin.write(to: source, atomically: true, encoding: .utf8)
        let library = try compile(["-w", source.path], to: folder.appendingPathComponent("libnothing.so"))
        let script = folder.appendingPathComponent("nothing.py").path
        try "def score(images, prompts, metadata): return [0.0] * len(images)".write(toFile: script, atomically: true, encoding: .utf8)
        let rewards = [
            ("in process", try RewardSpecification("\(library),isolation=none").load()),
            ("worker", try RewardSpecification(library).load()),
            ("Python", try RewardSpecification("\(script),python=\(python)").load()),
        ]
        say("milliseconds a batch of 64 pictures, median and 99th percentile of \(calls) calls\n")
        say("| | " + rewards.map(\.0).joined(separator: " | ") + " |\n|---|---|---|---|")
        for side in [32, 512] {
            let images = try ImageBatch(pixels: [UInt8](repeating: 7, count: 64 * side * side * 3), count: 64, height: side, width: side)
            let ids = (0..<UInt64(64)).map { $0 }
            let batch = try RewardBatch(
                images: images, prompts: ids.map { "a photo of a red boot on a blue background, number \($0)" }, sampleIDs: ids, seeds: ids)
            var times = rewards.map { _ in [Double]() }
            for call in 0..<calls + 5 {
                // One after the other, so that whatever else the machine does meets all alike.
                for (index, reward) in rewards.enumerated() {
                    let start = DispatchTime.now().uptimeNanoseconds
                    _ = try reward.1.score(batch)
                    if call >= 5 { times[index].append(Double(DispatchTime.now().uptimeNanoseconds - start) / 1e6) }
                }
            }
            let cells = times.map { all -> String in
                let sorted = all.sorted()
                return String(format: "%.2f, %.2f", sorted[sorted.count / 2], sorted[min(sorted.count - 1, sorted.count * 99 / 100)])
            }
            say("| 64 x \(side) x \(side) | " + cells.joined(separator: " | ") + " |")
        }
    }
}
