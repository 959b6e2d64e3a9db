import CDAGCore
import Foundation
import Models
import Tensors
import Testing

@testable import RewardKit

/// A plugin through its C functions: what becomes of errors.
@Suite(.serialized) struct PluginTests {
    /// Fails as its option says, or scores 1.
    private final class Probe: NeuralReward {
        static let card = RewardCard(
            name: "probe", version: "1", description: "a probe", license: "MIT", source: "here", objectives: [("one", "1")],
            weights: "nothing", options: [("fails", "", "where")])
        private let fails: String

        init(_ settings: NeuralSettings) throws {
            fails = settings["fails"]
            if fails == "create" { try Self.runOutOfMemory() }
            if fails == "settings" { throw RewardKitError("fails=settings") }
        }

        func score(_ pictures: Pictures, prompts: [String]) throws -> [Float] {
            if fails == "score" { try Self.runOutOfMemory() }
            return Array(repeating: 1, count: pictures.count)
        }

        /// As a model does: the tensor that could not be made has no shape, which is what is seen first.
        private static func runOutOfMemory() throws {
            let tensor = Tensor.zeros([1 << 50])
            if tensor.shape.isEmpty { throw ModelError("another shape") }
        }
    }

    private static func answer(_ call: (UnsafeMutablePointer<dag_reward_error>) -> Int32) -> (status: Int, message: String) {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 512) { buffer in
            buffer.initialize(repeating: 0)
            var error = dag_reward_error()
            (error.capacity, error.message) = (512, buffer.baseAddress)
            return (Int(call(&error)), String(cString: buffer.baseAddress!))
        }
    }

    /// Makes an instance, scores a picture of this height, and says how it ended.
    private func run(fails: String, height: UInt32 = 2) throws -> (status: Int, message: String) {
        var table: UnsafePointer<dag_reward_plugin>?
        var host = dag_reward_host()
        (host.abi_min, host.abi_max) = (1, 1)
        #expect(Self.answer { rewardEntry(Probe.self, &host, &table, $0) }.status == 0)
        let plugin = try #require(table).pointee
        let texts = (["fails", fails, "precision", "fp32", "batch_size", "1", "cpu"] as [String]).map { strdup($0)! }
        defer { texts.forEach { free($0) } }
        let settings = stride(from: 0, to: 6, by: 2).map { dag_reward_setting(key: texts[$0], value: texts[$0 + 1]) }
        var instance: UnsafeMutableRawPointer?
        let made = settings.withUnsafeBufferPointer { settings in
            var config = dag_reward_config()
            (config.settings, config.setting_count, config.device) = (settings.baseAddress, UInt32(settings.count), UnsafePointer(texts[6]))
            return Self.answer { plugin.create(&host, &config, &instance, $0) }
        }
        guard made.status == 0 else { return made }
        defer { plugin.destroy(instance) }
        let pixels = [UInt8](repeating: 0, count: 12)
        var (score, status) = (Float(0), Int32(0))
        return pixels.withUnsafeBytes { pixels in
            withUnsafePointer(to: dag_reward_text(data: UnsafePointer(texts[6]), size: 3)) { prompt in
                var images = dag_reward_images()
                (images.data, images.height, images.width, images.strides) = (pixels.baseAddress, height, 2, (12, 6, 3, 1))
                return withUnsafePointer(to: images) { images in
                    var batch = dag_reward_batch()
                    (batch.count, batch.images, batch.prompts) = (1, images, prompt)
                    return withUnsafeMutablePointer(to: &score) { score in
                        withUnsafeMutablePointer(to: &status) { status in
                            var result = dag_reward_result()
                            (result.objective_count, result.scores, result.statuses) = (1, score, status)
                            let answer = Self.answer { plugin.score(instance, &batch, &result, $0) }
                            #expect(answer.status != 0 || score.pointee == 1)
                            return answer
                        }
                    }
                }
            }
        }
    }

    @Test func memoryIsTheReason() throws {
        #expect(try run(fails: "").status == DAG_REWARD_OK)
        for (place, hint) in [("create", false), ("score", true)] {
            let answer = try run(fails: place)
            #expect(answer.status == DAG_REWARD_MEMORY && answer.message.contains("allocate"), "\(answer)")
            #expect(answer.message.hasSuffix("; lower batch_size") == hint, "\(answer)")
        }
    }

    @Test func earlierErrorsAreNoReason() throws {
        _ = Tensor.zeros([2]) + Tensor.zeros([3])
        #expect(try run(fails: "settings") == (Int(DAG_REWARD_INVALID), "fails=settings"))
        #expect(TensorError.take() == nil)
    }

    @Test func emptyPictures() throws {
        #expect(try run(fails: "", height: 0) == (Int(DAG_REWARD_INVALID), "the pictures are empty"))
    }
}
