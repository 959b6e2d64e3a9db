import CDAGCore
import Foundation
import Rewards
import Support

/// Checks of a plugin's score function against dag_reward.h: the same images in stranger and stranger layouts.
extension Checks {
    static let scoring: [Check] = [
        pluginCheck("newer_host", "structs of a later version of the ABI, longer at their end, are taken", newerHost),
        pluginCheck("older_host", "structs of the first release, without later fields, are taken", olderHost),
        pluginCheck("padded_rows", "strides are respected: padded rows and images score the same", paddedRows),
        pluginCheck("scores_in_bounds", "nothing is written beyond scores and statuses, and nothing read beyond the input", inBounds),
        pluginCheck("inputs_untouched", "inputs are not written to", inputsUntouched),
        pluginCheck("all_written", "every score is written, and finite where the status is OK", allWritten),
        pluginCheck("deadline", "a deadline that has passed gives scores or DAG_REWARD_DEADLINE", deadline),
        pluginCheck("threads", "calls from other threads, overlapping as the thread mode allows, give the usual scores", threads),
        pluginCheck("unload", "destroying an instance, closing the library and ending the process work", unload),
    ]

    private static func newerHost(_ plugin: RawPlugin) throws -> CheckOutcome {
        var table: UnsafePointer<dag_reward_plugin>?
        let (status, message) = try RawPlugin.withError { plugin.entry(RawPlugin.host(.later), &table, $0) }
        guard status == 0 else {
            throw CheckFailure("a host struct with 64 bytes more is refused: \(message); compare struct_size with >=")
        }
        return try compare(plugin, RawPlugin.Layout(version: .later), "with larger structs")
    }

    private static func olderHost(_ plugin: RawPlugin) throws -> CheckOutcome {
        var table: UnsafePointer<dag_reward_plugin>?
        let (status, message) = try RawPlugin.withError { plugin.entry(RawPlugin.host(.first), &table, $0) }
        guard status == 0 else { throw CheckFailure("the host struct of the first release is refused: \(message); see DAG_REWARD_HAS") }
        return try compare(plugin, RawPlugin.Layout(version: .first), "with the structs of the first release")
    }

    private static func paddedRows(_ plugin: RawPlugin) throws -> CheckOutcome {
        try compare(
            plugin, RawPlugin.Layout(rowPadding: 29, imagePadding: 1001), "with padding after rows and images", height: 33, width: 31)
    }

    private static func inBounds(_ plugin: RawPlugin) throws -> CheckOutcome {
        for edge in GuardedMemory.Edge.allCases {
            _ = try compare(plugin, RawPlugin.Layout(edge: edge), "between forbidden pages", height: 31, width: 57)
        }
        return .pass
    }

    private static func inputsUntouched(_ plugin: RawPlugin) throws -> CheckOutcome {
        try compare(plugin, RawPlugin.Layout(isProtected: true), "with inputs that cannot be written")
    }

    private static func allWritten(_ plugin: RawPlugin) throws -> CheckOutcome {
        let instance = try plugin.create()
        let count = min(7, largest(plugin))
        let answer = try plugin.score(instance, Samples.batch(0..<count))
        plugin.destroy(instance)
        guard answer.status == 0 else { throw CheckFailure("score failed with status \(answer.status): \(answer.message)") }
        for (index, score) in answer.scores.enumerated() {
            let objectives = plugin.description.objectives
            let sample = index / objectives.count
            let objective = objectives[index % objectives.count].name
            guard 0...6 ~= answer.statuses[sample] else {
                throw CheckFailure("sample \(sample) has the unknown status \(answer.statuses[sample])")
            }
            guard answer.statuses[sample] == 0 else { throw CheckFailure("sample \(sample) cannot be scored: \(answer.message)") }
            guard score.bitPattern != DAG_REWARD_UNWRITTEN else { throw CheckFailure("\(objective) of sample \(sample) is not written") }
            guard score.isFinite else {
                throw CheckFailure("\(objective) of sample \(sample) is \(score): give the sample a status instead")
            }
        }
        return .pass
    }

    private static func deadline(_ plugin: RawPlugin) throws -> CheckOutcome {
        let instance = try plugin.create()
        let batch = try Samples.batch(0..<min(4, largest(plugin)))
        let usual = try plugin.score(instance, batch)
        let late = try plugin.score(instance, batch, RawPlugin.Layout(deadline: 1))
        plugin.destroy(instance)
        if late.status != Int32(DAG_REWARD_DEADLINE), let fault = fault(in: late, beside: usual, plugin) {
            throw CheckFailure("after its deadline \(fault); return DAG_REWARD_DEADLINE or ignore it")
        }
        return .pass
    }

    private static func threads(_ plugin: RawPlugin) throws -> CheckOutcome {
        let mode = plugin.description.threadMode
        guard mode != .serialized else { return try changingThreads(plugin) }
        nonisolated(unsafe) let plugin = plugin
        nonisolated(unsafe) let instances = try (0..<4).map { _ in try plugin.create() }
        let count = min(3, largest(plugin))
        let batches = try (0..<4).map { k in try Samples.batch(k * 10..<k * 10 + count, height: 64, width: 64) }
        let alone = try batches.map { try plugin.score(instances[0], $0) }
        let faults = Faults()
        DispatchQueue.concurrentPerform(iterations: 4) { k in
            for _ in 0..<50 {
                do {
                    let answer = try plugin.score(instances[mode == .concurrent ? 0 : k], batches[k])
                    if let fault = fault(in: answer, beside: alone[k], plugin) { faults.add(fault) }
                } catch {
                    faults.add("\(error)")
                }
            }
        }
        for instance in instances { plugin.destroy(instance) }
        if let first = faults.all.first {
            throw CheckFailure(
                "\(faults.all.count) of 200 calls that overlapped differ from ones alone: \(first); declare a stricter thread mode, or find the data race"
            )
        }
        return .pass
    }

    /// Makes calls one after the other, each from a new thread.
    private static func changingThreads(_ plugin: RawPlugin) throws -> CheckOutcome {
        nonisolated(unsafe) let plugin = plugin
        nonisolated(unsafe) let instance = try onNewThread { try plugin.create() }
        let batch = try Samples.batch(0..<min(3, largest(plugin)))
        let usual = try onNewThread { try plugin.score(instance, batch) }
        for _ in 0..<3 {
            let answer = try onNewThread { try plugin.score(instance, batch) }
            if let fault = fault(in: answer, beside: usual, plugin) { throw CheckFailure("called from another thread \(fault)") }
        }
        try onNewThread { plugin.destroy(instance) }
        return .pass
    }

    private static func onNewThread<Value>(_ body: @escaping @Sendable () throws -> Value) throws -> Value {
        try concurrently(1) { _ in Result { try body() } }[0].get()
    }

    private static func unload(_ plugin: RawPlugin) throws -> CheckOutcome {
        let instance = try plugin.create()
        _ = try plugin.score(instance, Samples.batch(0..<1))
        plugin.destroy(instance)
        dlclose(plugin.handle)
        return .pass
    }

    /// The largest batch to try.
    static func largest(_ plugin: RawPlugin) -> Int { plugin.description.largestBatch == 0 ? 64 : plugin.description.largestBatch }

    /// Checks that a strange layout gives the scores of the usual one.
    private static func compare(
        _ plugin: RawPlugin, _ layout: RawPlugin.Layout, _ what: String, height: Int = 32, width: Int = 32
    ) throws -> CheckOutcome {
        let instance = try plugin.create()
        defer { plugin.destroy(instance) }
        let batch = try Samples.batch(0..<min(5, largest(plugin)), height: height, width: width)
        let usual = try plugin.score(instance, batch)
        let strange = try plugin.score(instance, batch, layout)
        if let fault = fault(in: strange, beside: usual, plugin) { throw CheckFailure("\(what) \(fault)") }
        return .pass
    }

    /// Describes the fault in an answer, given the usual one to the same batch; nil: none. Scores of a reward
    /// that is not deterministic may differ.
    private static func fault(in answer: RawPlugin.Answer, beside usual: RawPlugin.Answer, _ plugin: RawPlugin) -> String? {
        guard usual.status == 0 else { return "nothing can be compared: score failed with status \(usual.status): \(usual.message)" }
        guard answer.status == 0 else { return "score failed with status \(answer.status): \(answer.message)" }
        let description = plugin.description
        let m = description.objectives.count
        if let index = answer.scores.indices.first(where: { answer.statuses[$0 / m] == 0 && !answer.scores[$0].isFinite }) {
            return "\(description.objectives[index % m].name) is \(answer.scores[index])"
        }
        guard description.isDeterministic else { return nil }
        guard answer.statuses == usual.statuses else { return "other samples cannot be scored" }
        return ScoreTolerance(usual.scores, objectives: m).firstDifference(usual.scores, answer.scores).map {
            "scores differ: \(usual.scores[$0]) became \(answer.scores[$0])"
        }
    }
}

/// Faults that several threads found.
private final class Faults: @unchecked Sendable {
    private let lock = NSLock()
    private(set) var all: [String] = []
    func add(_ fault: String) { lock.withLock { all.append(fault) } }
}
