import Foundation
import Support
import Tensors
import TestSupport
import Testing

@testable import DAGCore

/// The format of checkpoints, which runs of earlier versions have written.
@Suite struct CheckpointTests {
    /// Writes a checkpoint of one trajectory and one transition with this JSON in its header.
    private func write(_ json: String, in folder: URL) throws -> OutputFolder {
        let output = OutputFolder(folder.path)
        try output.prepare()
        let tensors = [
            "lora.a": Tensor([1, 2] as [Float]), "rollout.states": Tensor.zeros([2, 1, 1, 1, 1]),
            "rollout.log_forward": Tensor.zeros([1, 1]), "rollout.guided": Tensor.zeros([1, 1, 1, 1, 1]),
        ]
        let data = try Safetensors.encode(tensors, metadata: ["dag_checkpoint": json])
        try data.write(to: output.checkpoints.appendingPathComponent("epoch-00002-step-0000005.safetensors"))
        return output
    }

    private static let first = #"""
        {"progress":{"advantages":[0.5],"epoch":2,"metricsLength":1234,"promptStatistics":{"rewards":{"a boot":[1,2.5]}},
        "rewardMoments":[{"count":3,"mean":0.25,"squares":0.5}],"step":5,"update":1,
        "watch":{"first":{"diversity":0.4,"heldOut":{"b/score":{"deviation":0.1,"mean":0.46909999847412109}},
        "reward":{"deviation":0.25,"mean":0.5}},"recent":[],"warned":["diversity"]}},
        "rewards":"1.0 * score of a","rollout":{"imputed":1,"firstFailure":"it failed","lookahead":[["nan"]],
        "objectives":{"b/score":[1],"a/score":["nan"]},"prompts":["a boot"],"rewards":["nan"]},"version":1}
        """#

    /// A checkpoint of version 0.1.0, in the middle of an epoch.
    @Test func theFirstVersionIsRead() throws {
        try withFolder { folder in
            let checkpoint = try Checkpoint(newestOf: write(Self.first, in: folder))
            #expect(checkpoint.state.epoch == 2 && checkpoint.state.update == 1 && checkpoint.state.step == 5)
            #expect(checkpoint.state.metricsLength == 1234 && checkpoint.state.rewardMoments.count == 1)
            #expect(checkpoint.rewards == "1.0 * score of a" && Array(checkpoint.tensors.keys) == ["lora.a"])
            let scores = try #require(checkpoint.rollout).scores
            #expect(scores.dropped == 1 && scores.imputed == 1 && scores.firstFailure == "it failed")
            #expect(scores.objectives.map(\.name) == ["a/score", "b/score"] && scores.objectives[1].scores == [1])
            let ddpo = DDPO(clipRange: 1, comparison: .promptHistory)
            try checkpoint.restore(ddpo)
            #expect(ddpo.state.advantages == [0.5])
            let single = FlowStates(transitions: 1, spacing: 1)
            try checkpoint.restore(TrajectoryBalance(flow: NoFlow(), single, lambda: 0))
        }
    }

    /// What is written is what was read.
    @Test func whatIsReadIsWritten() throws {
        try withFolder { folder in
            let old = try Checkpoint(newestOf: write(Self.first, in: folder.appendingPathComponent("old")))
            let ddpo = DDPO(clipRange: 1, comparison: .promptHistory)
            try old.restore(ddpo)
            let output = OutputFolder(folder.appendingPathComponent("new").path)
            try output.prepare()
            let prompt = Prompt("a \"boot\"", metadata: #"{"text":"\u0000 \"ä\""}"#)
            _ = ddpo.state.promptStatistics.advantages([1, 2], prompts: [prompt, "a NUL \0"])
            var rollout = try #require(old.rollout)
            rollout.prompts = [prompt]
            try Checkpoint(
                old.state, algorithm: ddpo, rewards: old.rewards, prompts: "one", tensors: old.tensors, rollout: rollout
            ).save(to: output)
            let new = try Checkpoint(newestOf: output)
            #expect(new.state == old.state && new.rollout?.scores.objectives.map(\.name) == old.rollout?.scores.objectives.map(\.name))
            #expect(new.rollout?.prompts == [prompt] && new.prompts == "one" && old.prompts == nil)
            let restored = DDPO(clipRange: 1, comparison: .promptHistory)
            try new.restore(restored)
            #expect(restored.state.advantages == [0.5] && restored.state.promptStatistics == ddpo.state.promptStatistics)
        }
    }

    /// A changed bit, wherever it is, is found.
    @Test func changedBitsAreFound() throws {
        try withFolder { folder in
            let old = try Checkpoint(newestOf: write(Self.first, in: folder.appendingPathComponent("old")))
            let output = OutputFolder(folder.appendingPathComponent("new").path)
            try output.prepare()
            try Checkpoint(
                old.state, algorithm: DDPO(clipRange: 1, comparison: .promptHistory), rewards: old.rewards, prompts: nil,
                tensors: old.tensors, rollout: old.rollout
            ).save(to: output)
            let name = try #require(FileManager.default.contentsOfDirectory(atPath: output.checkpoints.path).first)
            let file = output.checkpoints.appendingPathComponent(name)
            let data = try Data(contentsOf: file)
            for place in stride(from: 0, to: data.count, by: 7) {
                var changed = data
                changed[place] ^= 1 << UInt8(place % 8)
                try changed.write(to: file)
                #expect(throws: (any Error).self, "byte \(place)") { try Checkpoint(newestOf: output) }
            }
            // Without the checksum.
            try data.write(to: file)
            let content = try Safetensors(contentsOf: file)
            try Safetensors.encode(content.tensors.filter { !$0.key.hasPrefix("~") }, metadata: content.metadata).write(to: file)
            let error = #expect(throws: OutputError.self) { try Checkpoint(newestOf: output) }
            #expect(error?.description == "\(file.path): damaged (another checksum)")
        }
    }

    /// A version that this program does not know is refused, not guessed.
    @Test func laterVersionsAreRefused() throws {
        try withFolder { folder in
            let output = try write(Self.first.replacing("\"version\":1", with: "\"version\":3"), in: folder)
            let error = #expect(throws: OutputError.self) { try Checkpoint(newestOf: output) }
            #expect(error?.description.contains("has format 3, of a newer version") == true)
        }
    }
}
