import Foundation
import Images
import Rewards

/// What the scores of every reward have to be like.
extension Checks {
    static let behaviour: [Check] = [
        check("opens", "the reward opens and makes itself ready in a worker process", opens),
        check("batch_sizes", "batches of 1, 2, 7 and many pictures are scored", batchSizes),
        check("picture_sizes", "pictures of 1x1, 31x57, 57x31, 33x7 and 512x512 are scored", pictureSizes),
        check("prompts", "empty, long and unusual prompts are taken", prompts),
        check("repeatable", "the same batch gets the same scores, from another instance and another process too", repeatable),
        check("independent", "a picture's score does not depend on its batch", independent),
        check("discriminating", "different pictures get different scores", discriminating),
        check("memory", "many batches later no memory and no descriptor is lost", memory),
        check("speed", "how long a picture takes", speed),
    ]

    /// A reward, in this process if it can be: this is already one that may crash.
    private static func check(
        _ name: String, _ what: String, _ body: @escaping @Sendable (RewardSpecification, any Reward) throws -> CheckOutcome
    ) -> Check {
        Check(name: name, what: what, isNative: false) { specification in
            var here = specification
            here.isIsolated = specification.kind == .python
            here.workers = 1
            return try body(specification, here.load())
        }
    }

    private static func opens(_ specification: RewardSpecification, _ reward: any Reward) throws -> CheckOutcome {
        var isolated = specification
        isolated.isIsolated = true
        _ = try isolated.load()
        return .pass
    }

    @discardableResult private static func score(_ reward: any Reward, _ batch: RewardBatch, _ what: String) throws -> [Float] {
        let scores = try reward.score(batch)
        if let (sample, reason) = scores.failures.min(by: { $0.key < $1.key }) {
            throw CheckFailure("\(what), sample \(sample): \(reason)")
        }
        return scores.values
    }

    private static func batchSizes(_ specification: RewardSpecification, _ reward: any Reward) throws -> CheckOutcome {
        for count in [1, 2, 7, 64] { try score(reward, Samples.batch(0..<count), "a batch of \(count)") }
        return .pass
    }

    private static func pictureSizes(_ specification: RewardSpecification, _ reward: any Reward) throws -> CheckOutcome {
        for (height, width) in [(1, 1), (31, 57), (57, 31), (33, 7), (512, 512)] {
            try score(reward, Samples.batch(0..<2, height: height, width: width), "pictures of \(height)x\(width)")
        }
        return .pass
    }

    private static func prompts(_ specification: RewardSpecification, _ reward: any Reward) throws -> CheckOutcome {
        let texts = [
            "", String(repeating: "a very long prompt, ", count: 500), "ein grünes Haus \u{1F3E0}, 猫", "a NUL\0 inside",
            "\"quotes\" \\ \n lines",
        ]
        try score(reward, Samples.batch(0..<texts.count, prompts: texts), "unusual prompts")
        return .pass
    }

    private static func repeatable(_ specification: RewardSpecification, _ reward: any Reward) throws -> CheckOutcome {
        guard reward.isDeterministic else { return .skip("the reward does not call itself deterministic") }
        let batch = try Samples.batch(0..<7)
        let first = try score(reward, batch, "the first time")
        let tolerance = ScoreTolerance(first, objectives: reward.objectives.count)
        for (what, other) in try [
            ("a second time", reward), ("by another instance", specification.load()), ("by another process", specification.load()),
        ] {
            let again = try score(other, batch, what)
            guard let index = tolerance.firstDifference(first, again) else { continue }
            throw CheckFailure(
                "the same picture got \(first[index]), and \(again[index]) \(what); fix its seeds, or do not declare it deterministic")
        }
        return .pass
    }

    private static func independent(_ specification: RewardSpecification, _ reward: any Reward) throws -> CheckOutcome {
        guard reward.isDeterministic else { return .skip("the reward does not call itself deterministic") }
        let m = reward.objectives.count
        let whole = try score(reward, Samples.batch(0..<6), "a batch of 6")
        let tolerance = ScoreTolerance(whole, objectives: m)
        for (what, numbers) in [
            ("in reversed order", [5, 4, 3, 2, 1, 0]), ("in a batch of its own", [3]), ("with other neighbours", [20, 3, 21]),
        ] {
            let other = try score(reward, Samples.batch(numbers), what)
            for (place, number) in numbers.enumerated() where number < 6 {
                let (usual, now) = (Array(whole[number * m..<(number + 1) * m]), Array(other[place * m..<(place + 1) * m]))
                guard let k = tolerance.firstDifference(usual, now) else { continue }
                throw CheckFailure("a picture got \(usual[k]), and \(now[k]) \(what): \(reward.objectives[k].name) depends on the batch")
            }
        }
        return .pass
    }

    private static func discriminating(_ specification: RewardSpecification, _ reward: any Reward) throws -> CheckOutcome {
        let scores = try score(reward, Samples.batch(0..<8, height: 64, width: 64), "a batch of 8")
        let m = reward.objectives.count
        let flat = (0..<m).filter { k in Set((0..<8).map { scores[$0 * m + k] }).count == 1 }
        return flat.isEmpty
            ? .pass : .warn("eight different pictures all got the same \(flat.map { reward.objectives[$0].name }.joined(separator: ", "))")
    }

    private static func memory(_ specification: RewardSpecification, _ reward: any Reward) throws -> CheckOutcome {
        guard specification.kind != .python else { return .skip("Python looks after its memory itself") }
        let batch = try Samples.batch(0..<4, height: 64, width: 64)
        let start = Date()
        for _ in 0..<30 { try score(reward, batch, "a batch") }
        // As many as fit into half a minute, in two halves.
        let half = min(500, max(15, Int(15 / max(1e-4, Date().timeIntervalSince(start) / 30))))
        let before = usage()
        for _ in 0..<half { try score(reward, batch, "a batch") }
        let middle = usage()
        for _ in 0..<half { try score(reward, batch, "a batch") }
        let after = usage()
        guard after.descriptors <= before.descriptors else {
            throw CheckFailure("\(after.descriptors - before.descriptors) file descriptors are left open after \(2 * half) batches")
        }
        // What leaks does so in both; a cache that fills up does not.
        let lost = min(middle.bytes - before.bytes, after.bytes - middle.bytes)
        guard lost < 250_000 || lost / half < 4096 else {
            throw CheckFailure("\(lost / half) bytes are lost in each batch of 4 (\(2 * lost / 1000) KB in \(2 * half) batches)")
        }
        return .pass
    }

    /// Resident bytes and open descriptors of this process.
    private static func usage() -> (bytes: Int, descriptors: Int) {
        let pages =
            (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8))?.split(separator: " ").dropFirst().first.flatMap { Int($0) }
            ?? 0
        let descriptors = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd"))?.count ?? 0
        return (pages * Int(getpagesize()), descriptors)
    }

    private static func speed(_ specification: RewardSpecification, _ reward: any Reward) throws -> CheckOutcome {
        let measured = try [(32, 32), (512, 512)].map { height, width -> String in
            let batch = try Samples.batch(0..<8, height: height, width: width)
            try score(reward, batch, "a batch of 8")
            let clock = ContinuousClock()
            let times = try (0..<5).map { _ in try clock.measure { try score(reward, batch, "a batch of 8") } }.sorted()
            let seconds = Double(times[2].components.attoseconds) * 1e-18 + Double(times[2].components.seconds)
            return String(format: "%.3g ms at %dx%d", seconds / 8 * 1000, height, width)
        }
        return .info("a picture takes \(measured.joined(separator: ", "))")
    }
}
