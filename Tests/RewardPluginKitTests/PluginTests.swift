import CDAGCore
import Foundation
import Models
import Tensors
import TestSupport
import Testing

@testable import RewardPluginKit

/// A plugin through its C functions: its errors, batches, threads and log.
@Suite(.serialized) struct PluginTests {
    /// A reward that fails as its option says, or scores 1.
    private final class Probe: NeuralReward {
        static let card = RewardCard(
            name: "probe", version: "1", description: "a probe", license: "MIT", source: "here", objectives: [("one", "1")],
            weights: "nothing", options: [("fails", "", "where")])
        /// The number of images and of threads of each call.
        nonisolated(unsafe) static var calls: [(images: Int, threads: Int)] = []
        private let fails: String

        init(_ settings: NeuralSettings) throws {
            fails = settings["fails"]
            if fails == "create" { try Self.runOutOfMemory() }
            if fails == "settings" { throw RewardPluginError("fails=settings") }
        }

        var summary: String { "nothing" }

        func score(_ images: BorrowedImages, prompts: [String]) throws -> [Float] {
            Self.calls.append((images.count, Torch.threads))
            if let most = Int(fails), images.count > most { try Self.runOutOfMemory() }
            return Array(repeating: 1, count: images.count)
        }

        /// Fails as a model does: the tensor that could not be
        /// made has no shape, which the model notices first.
        private static func runOutOfMemory() throws {
            let tensor = Tensor.zeros([1 << 50])
            if tensor.shape.isEmpty { throw ModelError("another shape") }
        }
    }

    private nonisolated(unsafe) static var log: [String] = []
    private nonisolated(unsafe) static let logTable: UnsafePointer<dag_reward_log> = {
        let table = UnsafeMutablePointer<dag_reward_log>.allocate(capacity: 1)
        table.initialize(to: dag_reward_log(struct_size: 16, reserved: 0, write: { PluginTests.log.append(String(cString: $0!)) }))
        return UnsafePointer(table)
    }()

    private static func answer(_ call: (UnsafeMutablePointer<dag_reward_error>) -> Int32) -> (status: Int, message: String) {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 512) { buffer in
            buffer.initialize(repeating: 0)
            var error = dag_reward_error()
            (error.capacity, error.message) = (512, buffer.baseAddress)
            return (Int(call(&error)), String(cString: buffer.baseAddress!))
        }
    }

    /// Makes an instance and scores images of this height. Returns the last status and message.
    private func run(
        fails: String, batchSize: Int = 1, threads: Int = 0, height: UInt32 = 2, count: Int = 1, logs: Bool = true
    ) throws -> (status: Int, message: String) {
        (Self.log, Probe.calls) = ([], [])
        var table: UnsafePointer<dag_reward_plugin>?
        var host = dag_reward_host()
        (host.abi_min, host.abi_max) = (1, 1)
        if logs { host.extension = { String(cString: $0!) == DAG_REWARD_LOG ? UnsafeRawPointer(PluginTests.logTable) : nil } }
        #expect(Self.answer { rewardEntry(Probe.self, &host, &table, $0) }.status == 0)
        let plugin = try #require(table).pointee
        let words = ["fails", fails, "precision", "fp32", "batch_size", "\(batchSize)", "threads", "\(threads)", "cpu"]
        let texts = words.map { strdup($0)! }
        defer { texts.forEach { free($0) } }
        let settings = stride(from: 0, to: 8, by: 2).map { dag_reward_setting(key: texts[$0], value: texts[$0 + 1]) }
        var instance: UnsafeMutableRawPointer?
        let made = settings.withUnsafeBufferPointer { settings in
            var config = dag_reward_config()
            (config.settings, config.setting_count, config.device) = (settings.baseAddress, UInt32(settings.count), UnsafePointer(texts[8]))
            return Self.answer { plugin.create(&host, &config, &instance, $0) }
        }
        guard made.status == 0 else { return made }
        defer { plugin.destroy(instance) }
        let pixels = [UInt8](repeating: 0, count: 12 * count)
        let prompts = Array(repeating: dag_reward_text(data: UnsafePointer(texts[8]), size: 3), count: count)
        var (scores, statuses) = ([Float](repeating: 0, count: count), [Int32](repeating: 0, count: count))
        return pixels.withUnsafeBytes { pixels in
            var images = dag_reward_images()
            (images.data, images.height, images.width, images.strides) = (pixels.baseAddress, height, 2, (12, 6, 3, 1))
            return withUnsafePointer(to: images) { images in
                prompts.withUnsafeBufferPointer { prompts in
                    var batch = dag_reward_batch()
                    (batch.count, batch.images, batch.prompts) = (UInt32(count), images, prompts.baseAddress)
                    return scores.withUnsafeMutableBufferPointer { scores in
                        statuses.withUnsafeMutableBufferPointer { statuses in
                            var result = dag_reward_result()
                            (result.objective_count, result.scores, result.statuses) = (1, scores.baseAddress, statuses.baseAddress)
                            let answer = Self.answer { plugin.score(instance, &batch, &result, $0) }
                            #expect(answer.status != 0 || scores.allSatisfy { $0 == 1 })
                            return answer
                        }
                    }
                }
            }
        }
    }

    @Test func memoryIsTheReason() throws {
        #expect(try run(fails: "").status == DAG_REWARD_OK)
        for place in ["create", "0"] {
            let answer = try run(fails: place)
            #expect(answer.status == DAG_REWARD_MEMORY && answer.message.contains("allocate"), "\(answer)")
        }
    }

    /// A batch that does not fit into memory is halved, and so are later ones. A single image that does not fit is
    /// an error.
    @Test func batchesAreHalvedToFit() throws {
        #expect(try run(fails: "3", batchSize: 16, count: 20).status == DAG_REWARD_OK)
        #expect(Probe.calls.map(\.images) == [16, 8, 4, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2])
        #expect(
            Self.log.dropFirst() == [
                "probe: no memory for 16 images at once; going on with batch_size=8",
                "probe: no memory for 8 images at once; going on with batch_size=4",
                "probe: no memory for 4 images at once; going on with batch_size=2",
            ])
        #expect(try run(fails: "0", batchSize: 4, count: 4).status == DAG_REWARD_MEMORY)
        #expect(Probe.calls.map(\.images) == [4, 2, 1])
    }

    /// The number of threads is that of the setting during a call, and the process's own afterwards.
    @Test func threadsAreSet() throws {
        let before = Torch.threads
        #expect(try run(fails: "", threads: before + 1).status == DAG_REWARD_OK)
        #expect(Probe.calls.map(\.threads) == [before + 1] && Torch.threads == before)
        #expect(Self.log == ["probe: nothing; float32 on cpu, threads: \(before + 1)"])
        #expect(try run(fails: "").status == DAG_REWARD_OK)
        #expect(Probe.calls.map(\.threads) == [before])
    }

    @Test func aHostNeedsNoLog() throws { #expect(try run(fails: "1", batchSize: 2, count: 2, logs: false).status == DAG_REWARD_OK) }

    @Test func earlierErrorsAreNoReason() throws {
        _ = Tensor.zeros([2]) + Tensor.zeros([3])
        #expect(try run(fails: "settings") == (Int(DAG_REWARD_INVALID), "fails=settings"))
        #expect(TensorError.take() == nil)
    }

    @Test func emptyImages() throws {
        #expect(try run(fails: "", height: 0) == (Int(DAG_REWARD_INVALID), "the images are empty"))
    }
}
