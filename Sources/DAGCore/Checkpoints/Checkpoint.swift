import Foundation
import Rewards
import Tensors

/// Everything that the rest of a run depends on. Random numbers need no state: see `Seeds`.
struct Checkpoint {
    /// Counters and statistics.
    struct Progress: Codable, Equatable {
        /// Epochs done.
        var epoch = 0
        /// Optimiser steps done in the epoch that is under way, and in all.
        var update = 0
        var step = 0
        var promptStatistics = PromptStatistics()
        /// Running statistics of the rewards, for those that are normalised.
        var rewardMoments: [RunningMoments] = []
        var watch = RewardWatch()
        /// Advantages of the epoch under way.
        var advantages: [Float] = []
        /// Length of metrics.jsonl.
        var metricsLength: UInt64 = 0
    }

    /// The parts of a rollout that are not tensors.
    private struct RolloutRecord: Codable {
        let prompts: [String]
        let rewards: [Float]
        let lookahead: [[Float]]
        let objectives: [String: [Float]]
        let imputed: Int
        let firstFailure: String?
    }

    private struct Record: Codable {
        var version = 1
        let progress: Progress
        let rewards: String
        let rollout: RolloutRecord?
    }

    var progress: Progress
    /// The rewards' fingerprint.
    var rewards: String
    /// LoRA, flow network and both optimisers.
    var tensors: [String: Tensor]
    /// The trajectories of the epoch under way.
    var rollout: Rollout?

    private static let key = "dag_checkpoint"
    /// Checkpoints that are kept: the newest, and the one before should a disk block of it go bad.
    private static let kept = 2

    /// Writes the checkpoint and removes the oldest ones.
    func save(to folder: OutputFolder) throws {
        let record = Record(
            progress: progress, rewards: rewards,
            rollout: rollout.map {
                RolloutRecord(
                    prompts: $0.prompts, rewards: $0.rewards, lookahead: $0.lookahead, objectives: $0.objectives, imputed: $0.imputed,
                    firstFailure: $0.firstFailure)
            })
        var all = tensors
        if let rollout {
            for (name, list) in [
                ("states", rollout.states), ("log_forward", rollout.logForward), ("guided", rollout.guided),
                ("log_reference", rollout.logReference),
            ] where !list.isEmpty {
                all["rollout.\(name)"] = Tensor.stack(list, 0)
            }
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        encoder.nonConformingFloatEncodingStrategy = .convertToString(positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
        let data = try Safetensors.encode(all, metadata: [Self.key: String(decoding: try encoder.encode(record), as: UTF8.self)])
        let name = String(format: "epoch-%05d-step-%07d.safetensors", progress.epoch, progress.step)
        try OutputFolder.writeAtomically(data, to: folder.checkpoints.appendingPathComponent(name))
        for old in Self.files(folder).dropFirst(Self.kept) { try? FileManager.default.removeItem(at: old) }
    }

    /// Newest first.
    private static func files(_ folder: OutputFolder) -> [URL] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.checkpoints.path)) ?? []
        return names.filter { $0.hasPrefix("epoch-") && $0.hasSuffix(".safetensors") }.sorted(by: >).map(
            folder.checkpoints.appendingPathComponent)
    }

    /// Whether a run has got as far as its first checkpoint, which comes with a LoRA.
    static func exists(in folder: OutputFolder) -> Bool {
        !files(folder).isEmpty || FileManager.default.fileExists(atPath: folder.lora.path)
    }

    /// The newest checkpoint of a run that can be read.
    init(newestOf folder: OutputFolder) throws {
        let files = Self.files(folder)
        var firstProblem: String?
        for file in files {
            do {
                self = try Checkpoint(contentsOf: file)
                return
            } catch {
                firstProblem = firstProblem ?? "\(error)"
            }
        }
        if let firstProblem { throw OutputError("\(firstProblem)") }
        throw OutputError("\(setting: "resume") \(folder.url.path): no checkpoint there (checkpoints/epoch-*.safetensors)")
    }

    private init(contentsOf file: URL) throws {
        let stored = try Safetensors(contentsOf: file)
        let decoder = JSONDecoder()
        decoder.nonConformingFloatDecodingStrategy = .convertFromString(positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
        guard let text = stored.metadata[Self.key], let record = try? decoder.decode(Record.self, from: Data(text.utf8)) else {
            throw OutputError("\(file.path): is not a checkpoint of dag-train")
        }
        func list(_ name: String) throws -> [Tensor] {
            guard let tensor = stored.tensors["rollout.\(name)"] else { throw OutputError("\(file.path): rollout.\(name) is missing") }
            return (0..<tensor.size(0)).map { tensor.select(0, $0).clone() }
        }
        progress = record.progress
        rewards = record.rewards
        tensors = stored.tensors.filter { !$0.key.hasPrefix("rollout.") }
        rollout = try record.rollout.map {
            Rollout(
                prompts: $0.prompts, states: try list("states"), logForward: try list("log_forward"), guided: try list("guided"),
                logReference: stored.tensors["rollout.log_reference"] == nil ? [] : try list("log_reference"),
                rewards: $0.rewards, lookahead: $0.lookahead, objectives: $0.objectives, imputed: $0.imputed,
                firstFailure: $0.firstFailure)
        }
    }

    init(progress: Progress, rewards: String, tensors: [String: Tensor], rollout: Rollout?) {
        (self.progress, self.rewards, self.tensors, self.rollout) = (progress, rewards, tensors, rollout)
    }
}
