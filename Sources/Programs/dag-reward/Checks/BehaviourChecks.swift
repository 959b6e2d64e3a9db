import CFunctionReward
import Foundation
import Images
import Rewards
import Support

/// Checks of the scores of all rewards.
extension Checks {
    static let behaviour: [Check] = [
        check("opens", "the reward opens and loads in a worker process", opens),
        check("batch_sizes", "batches of 1, 2, 7, 64 and the most images are scored", batchSizes),
        check("picture_sizes", "images of 1x1, 31x57, 57x31, 33x7 and 512x512 are scored", imageSizes),
        check("plain_pictures", "images of one colour, black and white too, are scored", plainImages),
        check("prompts", "empty, long and unusual prompts are taken", prompts),
        check("repeatable", "the same batch gets the same scores, from another instance and another process too", repeatable),
        check("independent", "an image's score does not depend on its batch", independent),
        check("discriminating", "different images get different scores", discriminating),
        check("memory", "no memory and no descriptor is lost over many batches", memory),
        check("speed", "how long an image takes", speed),
        check("manifest", "the manifest beside the reward, if there is one, says what the reward says", manifest),
    ]

    /// A reward in this process if possible: it was started for the check, and may crash.
    private struct Subject {
        let specification: RewardSpecification
        let description: RewardDescription
        let reward: any Reward

        init(_ specification: RewardSpecification) throws {
            self.specification = specification
            var here = specification
            here.isIsolated = try specification.locate().kind == .python
            here.workers = 1
            let factory = try here.open(opener: openLibrary)
            description = factory.description
            reward = try factory.make(options: here.options, device: here.device, timeout: here.timeout)
        }
    }

    private static func check(_ name: String, _ what: String, _ body: @escaping @Sendable (Subject) throws -> CheckOutcome) -> Check {
        Check(name: name, what: what, isNative: false) { try body(Subject($0)) }
    }

    private static func opens(_ subject: Subject) throws -> CheckOutcome {
        var isolated = subject.specification
        isolated.isIsolated = true
        _ = try isolated.load()
        return .pass
    }

    @discardableResult private static func score(_ reward: any Reward, _ batch: RewardBatch, _ what: String) throws -> [Float] {
        let scores = try reward.score(batch)
        if let failure = scores.firstFailure { throw CheckFailure("\(what): \(failure)") }
        return scores.values
    }

    private static func manifest(_ subject: Subject) throws -> CheckOutcome {
        let location = try subject.specification.locate()
        guard location.kind != .cLibrary else { return .skip("functions of a C library have none") }
        let file = RewardManifest.file(of: location.path).path
        let python = location.kind == .python ? subject.specification.python.map { ",python=\($0)" } ?? "" : ""
        let command = "dag-reward info \(location.path)\(python) --json > \(file)"
        guard let manifest = try RewardManifest.read(of: location.path) else {
            return .info("there is none; dag-reward list shows more of the reward beside one: \(command)")
        }
        let differences = try RewardManifest.differences(manifest, subject.description)
        guard differences.isEmpty else {
            throw CheckFailure("\(file) has other values of \(differences.joined(separator: ", ")); write it again: \(command)")
        }
        return .pass
    }

    /// Images in one call of a reward that takes any number.
    private static let many = 256

    private static func batchSizes(_ subject: Subject) throws -> CheckOutcome {
        let clock = ContinuousClock()
        var seconds = 0.0
        for count in [1, 2, 7, 64] {
            seconds = try clock.measure { try score(subject.reward, Samples.batch(0..<count), "a batch of \(count)") } / .seconds(1)
        }
        let declared = subject.description.largestBatch
        let most = declared == 0 ? many : min(declared, 4096)
        guard seconds * Double(most) / 64 < 45 else {
            return CheckOutcome(status: .pass, detail: String(format: "a batch of %d was not tried: one of 64 takes %.0f s", most, seconds))
        }
        try score(subject.reward, Samples.batch(0..<most), "a batch of \(most)")
        return .pass
    }

    /// A score may divide by an image's brightness or deviation.
    private static func plainImages(_ subject: Subject) throws -> CheckOutcome {
        let colours: [(String, [UInt8])] = [
            ("black", [0, 0, 0]), ("white", [255, 255, 255]), ("grey", [128, 128, 128]), ("red", [255, 0, 0]),
        ]
        for (name, colour) in colours {
            let pixels = (0..<2 * 32 * 32).flatMap { _ in colour }
            let batch = try RewardBatch(
                images: ImageBatch(pixels: pixels, count: 2, height: 32, width: 32), prompts: [Prompt(name), Prompt(name)],
                sampleIDs: [0, 1], seeds: [0, 1])
            try score(subject.reward, batch, "a \(name) image")
        }
        return .pass
    }

    private static func imageSizes(_ subject: Subject) throws -> CheckOutcome {
        for (height, width) in [(1, 1), (31, 57), (57, 31), (33, 7), (512, 512)] {
            try score(subject.reward, Samples.batch(0..<2, height: height, width: width), "images of \(height)x\(width)")
        }
        return .pass
    }

    private static func prompts(_ subject: Subject) throws -> CheckOutcome {
        let texts = [
            "", Prompt(String(repeating: "a very long prompt, ", count: 500)), "ein grünes Haus \u{1F3E0}, 猫", "a NUL\0 inside",
            "\"quotes\" \\ \n lines", Prompt("a sign", metadata: #"{"list":[1,{"a":null}],"text":"\u0000 \"ä\""}"#),
        ]
        try score(subject.reward, Samples.batch(0..<texts.count, prompts: texts), "unusual prompts")
        return .pass
    }

    private static func repeatable(_ subject: Subject) throws -> CheckOutcome {
        guard subject.reward.isDeterministic else { return .skip("the reward does not call itself deterministic") }
        let batch = try Samples.batch(0..<7)
        let first = try score(subject.reward, batch, "the first time")
        let tolerance = ScoreTolerance(first, objectives: subject.reward.objectives.count)
        for (what, other) in try [
            ("a second time", subject.reward), ("by another instance", subject.specification.load(opener: openLibrary)),
            ("by another process", subject.specification.load(opener: openLibrary)),
        ] {
            let again = try score(other, batch, what)
            guard let index = tolerance.firstDifference(first, again) else { continue }
            throw CheckFailure(
                "the same image got \(first[index]), and \(again[index]) \(what); fix its seeds, or do not declare it deterministic")
        }
        return .pass
    }

    private static func independent(_ subject: Subject) throws -> CheckOutcome {
        guard subject.reward.isDeterministic else { return .skip("the reward does not call itself deterministic") }
        let m = subject.reward.objectives.count
        let whole = try score(subject.reward, Samples.batch(0..<6), "a batch of 6")
        let tolerance = ScoreTolerance(whole, objectives: m)
        for (what, numbers) in [
            ("in reversed order", [5, 4, 3, 2, 1, 0]), ("in a batch of its own", [3]), ("with other neighbours", [20, 3, 21]),
        ] {
            let other = try score(subject.reward, Samples.batch(numbers), what)
            for (place, number) in numbers.enumerated() where number < 6 {
                let usual = Array(whole[number * m..<(number + 1) * m])
                let now = Array(other[place * m..<(place + 1) * m])
                guard let k = tolerance.firstDifference(usual, now) else { continue }
                throw CheckFailure(
                    "an image got \(usual[k]), and \(now[k]) \(what): \(subject.reward.objectives[k].name) depends on the batch")
            }
        }
        return .pass
    }

    private static func discriminating(_ subject: Subject) throws -> CheckOutcome {
        let scores = try score(subject.reward, Samples.batch(0..<8, height: 64, width: 64), "a batch of 8")
        let m = subject.reward.objectives.count
        let flat = (0..<m).filter { k in Set((0..<8).map { scores[$0 * m + k] }).count == 1 }
        return flat.isEmpty
            ? .pass
            : .warn("eight different images all got the same \(flat.map { subject.reward.objectives[$0].name }.joined(separator: ", "))")
    }

    private static func memory(_ subject: Subject) throws -> CheckOutcome {
        let batch = try Samples.batch(0..<4, height: 64, width: 64)
        let workers = (subject.reward as? IsolatedReward)?.processes ?? []
        try LeakCheck.run("batch of 4", in: workers) { try score(subject.reward, batch, "a batch") }
        return .pass
    }

    private static func speed(_ subject: Subject) throws -> CheckOutcome {
        let measured = try [(32, 32), (512, 512)].map { height, width -> String in
            let batch = try Samples.batch(0..<8, height: height, width: width)
            try score(subject.reward, batch, "a batch of 8")
            let clock = ContinuousClock()
            let times = try (0..<5).map { _ in try clock.measure { try score(subject.reward, batch, "a batch of 8") } }.sorted()
            return String(format: "%.3g ms at %dx%d", times[2].seconds / 8 * 1000, height, width)
        }
        return .info("an image takes \(measured.joined(separator: ", "))")
    }
}
