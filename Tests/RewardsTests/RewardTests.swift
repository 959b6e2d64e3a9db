import Foundation
import Support
import TestSupport
import Testing

@testable import Images
@testable import Rewards

@Suite struct RewardSpecificationTests {
    @Test func parsesHostKeysAndOptions() throws {
        let plain = try RewardSpecification("hps")
        #expect(plain == RewardSpecification(library: "hps", weight: 1, objective: nil, options: [:]))
        let full = try RewardSpecification("./libjpeg.so,weight=-0.5,objective=incompressibility,quality=90,note=a=b")
        #expect(
            full
                == RewardSpecification(
                    library: "./libjpeg.so", weight: -0.5, objective: "incompressibility", options: ["quality": "90", "note": "a=b"]))
    }

    @Test(arguments: [
        ("", "names no library"), (",weight=1", "names no library"), ("hps,quality", "`quality` is not key=value"),
        ("hps,=1", "`=1` is not key=value"), ("hps,weight=x", "weight=x is not a finite number"), ("hps,weight=inf", "weight=inf"),
        ("hps,weight=1e300", "weight=1e300 is not a finite number"), ("hps,on_failure=impute:1e300", "impute:NUMBER"),
        ("hps,weight=1e-60", "weight=1e-60 is not"), ("hps,weight=nan", "weight=nan is not"), ("hps,weight=1e400", "weight=1e400 is not"),
        ("hps,timeout=inf", "timeout=inf is not a number of seconds above 0"), ("hps,timeout=-0", "timeout=-0 is not"),
        ("hps,timeout=1e9", "timeout=1e9 is not"), ("hps,workers=65", "workers=65 is not a number from 1 to 64"),
        ("hps,workers=1e1", "workers=1e1 is not"), ("hps,on_failure=impute:nan", "on_failure=impute:nan is not"),
        ("hps,a=1,a=2", "a is given twice"), ("hps,", "`` is not key=value"),
    ])
    func quotesWhatItCannotRead(text: String, part: String) {
        let message = errorMessage { try RewardSpecification(text) }
        #expect(message.contains(part), "\(message)")
    }

    /// Quotes protect commas and parentheses; quotes around all of a library or value are removed.
    @Test func quotesAreTakenOff() throws {
        let quoted = try RewardSpecification(#""./a,b/(1/lib.so",note="x, (y",weight="2",score=f(const char *language = "eng")"#)
        #expect(quoted.library == "./a,b/(1/lib.so" && quoted.weight == 2)
        #expect(quoted.options == ["note": "x, (y", "score": #"f(const char *language = "eng")"#])
        #expect(try RewardSpecification(#"c:"./a,b.so",score=int f(void)"#).library == "c:./a,b.so")
        #expect(try RewardSpecification(#"x,a="b" and "c""#).options == ["a": #""b" and "c""#])
        #expect(errorMessage { try RewardSpecification("./a,b/lib.so") }.contains("put a text with a comma between double quotes"))
        #expect(errorMessage { try RewardSpecification("./(a/lib.so") }.contains("put a text with one between double quotes"))
    }

    /// A reason gets reward and sample before it even if it begins with the word "reward".
    @Test func failuresNameRewardAndSample() throws {
        for policy: RewardSpecification.FailurePolicy in [.fail, .drop] {
            let rude = RudeReward(failure: "reward model is not reachable")
            var specification = RewardSpecification(library: "rude")
            specification.onFailure = policy
            let evaluator = try RewardEvaluator([(specification, rude)])
            let line = "reward rude cannot score sample 2: reward model is not reachable"
            if policy == .fail {
                #expect(errorMessage { try evaluator.score(RewardFixture.batch(count: 2)) } == line)
            } else {
                #expect(try evaluator.score(RewardFixture.batch(count: 2)).firstFailure == line)
            }
        }
    }

    @Test(arguments: ["hps", "libhps.so"]) func looksInThreePlaces(name: String) throws {
        try withFolder { folder in
            let places = ["lib/dag/rewards", "bin", "second"].map { folder.appendingPathComponent($0) }
            let folders = InstalledFiles.rewardFolders(
                environment: ["DAG_REWARD_PATH": "\(folder.path)/first:\(folder.path)/second"],
                homes: [folder.appendingPathComponent("bin")])
            func find() throws -> String { try RewardSpecification(name).locate(in: folders).path }
            let text = errorMessage { try find() }
            for place in places { #expect(text.contains(place.resolvingSymlinksInPath().path), "\(text)") }
            #expect(text.contains("libhps.so") && text.contains("DAG_REWARD_PATH"))
            for place in places {
                try FileManager.default.createDirectory(at: place, withIntermediateDirectories: true)
                let file = place.appendingPathComponent("libhps.so").path
                try Data().write(to: URL(fileURLWithPath: file))
                #expect(try find() == file)
            }
        }
    }

    /// The paths of opened files are absolute.
    @Test func pathsAreAbsolute() throws {
        try withFolder { folder in
            let here = FileManager.default.currentDirectoryPath
            let up = here.split(separator: "/").map { _ in ".." }.joined(separator: "/")
            for (kind, name) in [("", "libx.so"), ("c:", "libx.so"), ("", "x.py")] {
                try Data().write(to: folder.appendingPathComponent(name))
                let path = try RewardSpecification("\(kind)\(up)\(folder.path)/\(name)").locate().path
                #expect(path == "\(here)/\(up)\(folder.path)/\(name)")
            }
            #expect(try RewardSpecification("c:libz.so.1").locate().path == "libz.so.1")
            #expect(InstalledFiles.program("./x") == "\(here)/./x" && InstalledFiles.program("sh").hasSuffix("/sh"))
            #expect(InstalledFiles.program("no_such_program") == "no_such_program")
        }
    }

    @Test func pathsAreNotLookedUp() {
        #expect(errorMessage { try RewardSpecification("./nowhere/libhps.so").locate().path } == "reward ./nowhere/libhps.so: no such file")
    }
}

/// Cannot score the second sample, and says why.
private final class RudeReward: Reward {
    let name = "rude"
    let fingerprint = "rude"
    let objectives = [RewardObjective("score")]
    let failure: String
    init(failure: String) { self.failure = failure }
    func result(_ batch: RewardBatch) throws -> RewardResult { RewardResult(values: [1, 1], reasons: [1: failure]) }
}

@Suite struct RewardEvaluatorTests {
    /// Two objectives: the first pixel's red, and minus that, the latter to be minimised.
    private static func red(name: String = "red") -> CallbackReward {
        CallbackReward(name: name, objectives: [RewardObjective("up"), RewardObjective("down", .minimize)]) { batch in
            (0..<batch.count).flatMap { [Float(batch.images[$0][0]), -Float(batch.images[$0][0])] }
        }
    }

    @Test func mixesByWeightAndDirection() throws {
        let evaluator = try RewardEvaluator([
            (RewardSpecification(library: "a", weight: 2), Self.red()),
            (RewardSpecification(library: "a", weight: 0.5, objective: "down"), Self.red()),
            (RewardSpecification(library: "b", weight: 0), Self.red(name: "logged")),
        ])
        let report = try evaluator.score(RewardFixture.batch(count: 3))
        #expect(report.reward == [0, 2.5, 5])
        #expect(evaluator.objectiveNames == ["red/up", "red/down", "red#2/up", "red#2/down", "logged/up", "logged/down"])
        #expect(report.objectives.map(\.name) == evaluator.objectiveNames)
        #expect(report.objectives["red#2/down"] == [0, -1, -2])
        #expect(evaluator.fingerprint == "2.0 * up of red + -0.5 * down of red + 0.0 * up of logged")
    }

    /// The differences between fingerprints, in words.
    @Test func differencesAreNamed() throws {
        func evaluator(_ rewards: (String, RewardSpecification)...) throws -> RewardEvaluator {
            try RewardEvaluator(rewards.map { ($1, CallbackReward(name: "any", fingerprint: $0) { _ in [] }) })
        }
        let plain = RewardSpecification(library: "any")
        let one = try evaluator(("sharp 1.0 radius=2 weights=12ab", plain), ("warm 1.1", plain))
        #expect(one.difference(from: one.fingerprint) == nil)
        let other = try evaluator(
            ("sharp 1.0 radius=3 weights=12ab", plain), ("warm 1.1 unit=K", RewardSpecification(library: "any", weight: 2)))
        #expect(
            other.difference(from: one.fingerprint)
                == "sharp: `radius=2` then, `radius=3` now; warm: `1.0 * score` then, `2.0 * score unit=K` now")
        #expect(
            one.difference(from: other.fingerprint)
                == "sharp: `radius=3` then, `radius=2` now; warm: `2.0 * score unit=K` then, `1.0 * score` now")
        #expect(try evaluator(("warm 1.1", plain)).difference(from: "1.0 * score of warm 1.1 a=1") == "warm: `a=1` then, nothing now")
        #expect(
            try evaluator(("warm 1.1", plain)).difference(from: one.fingerprint)
                == "`\(one.fingerprint)` then, `1.0 * score of warm 1.1` now")
    }

    @Test func unknownObjectivesAndNoRewardsAreErrors() {
        let unknown = errorMessage { try RewardEvaluator([(RewardSpecification(library: "a", objective: "left"), Self.red())]) }
        #expect(unknown == "reward red has no objective left; it has up, down")
        #expect(errorMessage { try RewardEvaluator([]) }.contains("at least one"))
    }

    @Test func scoresInTheBackgroundInOrder() throws {
        let gate = DispatchSemaphore(value: 0)
        nonisolated(unsafe) var calls = 0
        let slow = CallbackReward(name: "slow") { batch in
            gate.wait()
            calls += 1
            return batch.sampleIDs.map { Float($0) }
        }
        let evaluator = try RewardEvaluator([(RewardSpecification(library: "slow"), slow)])
        let pending = try (1...3).map { evaluator.submit(try RewardFixture.batch(count: $0)) }
        #expect(calls == 0, "submit came back before a batch was scored")
        for _ in pending { gate.signal() }
        #expect(try pending[2].wait().reward == [1, 2, 3])
        #expect(try pending[0].wait().reward == [1])
        #expect(try pending[0].wait().reward == [1])
        #expect(calls == 3)
    }

    @Test func errorsArriveWhereTheReportIsAwaited() throws {
        let short = CallbackReward(name: "short") { _ in [1] }
        let evaluator = try RewardEvaluator([(RewardSpecification(library: "short"), short)])
        let pending = evaluator.submit(try RewardFixture.batch(count: 2))
        #expect(errorMessage { try pending.wait() } == "reward short gave 1 scores for 2 samples; it must give 1 for each")
        let nan = CallbackReward(name: "nan") { _ in [1, .nan] }
        let text = errorMessage { try RewardEvaluator([(RewardSpecification(library: "nan"), nan)]).score(RewardFixture.batch(count: 2)) }
        #expect(text == "reward nan cannot score sample 2: nan as score; scores must be finite")
    }

    /// A score of minus infinity has its remedy beside it.
    @Test func minusInfinityHasARemedy() throws {
        let least = CallbackReward(name: "least") { _ in [-.infinity, .infinity] }
        var specification = RewardSpecification(library: "least")
        specification.onFailure = .drop
        let report = try RewardEvaluator([(specification, least)]).score(RewardFixture.batch(count: 2))
        #expect(
            report.failures[0] == "reward least cannot score sample 1: -inf as score; scores must be finite and fit 32 bits "
                + "(for a target of zero return a floor, or have on_failure=impute:X assume one)")
        #expect(report.failures[1] == "reward least cannot score sample 2: inf as score; scores must be finite and fit 32 bits")
    }

    /// A score that is too large for the trainer's numbers is refused with reward and sample, or treated as one
    /// that is missing.
    @Test func scoresThatAreTooLarge() throws {
        func evaluator(
            _ score: Float, weight: Double = 1, beta: Double?, normalize: Bool = false, policy: RewardSpecification.FailurePolicy = .fail
        ) throws -> RewardEvaluator {
            let objectives = [RewardObjective("score"), RewardObjective("other")]
            let large = CallbackReward(name: "large", objectives: objectives) { _ in [1, 0, score, 0] }
            var specification = RewardSpecification(library: "large", weight: weight)
            (specification.normalize, specification.onFailure) = (normalize, policy)
            return try RewardEvaluator([(specification, large)], beta: beta)
        }
        let batch = try RewardFixture.batch(count: 2)
        let refused: [(score: Float, weight: Double, beta: Double?, text: String)] = [
            (1e30, 1, 100, "1e+30 as score is too large for float32 with weight 1 and beta 100; return smaller scores, or lower the"),
            (-3e38, -0.5, 1e-3, "-3e+38 as score is too large for float32 with weight -0.5 and beta 0.001; return"),
            (7, 1e38, nil, "7.0 as score is too large for float32 with weight 1e+38; return smaller scores, or lower the weight"),
            (2, 1e38, 1, "1.0 as score is too large for float32 with weight 1e+38 and beta 1; "),
        ]
        for (score, weight, beta, text) in refused {
            let sample = text.hasPrefix("1.0") ? 1 : 2
            let found = errorMessage { try evaluator(score, weight: weight, beta: beta).score(batch) }
            #expect(found.hasPrefix("reward large cannot score sample \(sample): \(text)"), "\(found)")
        }
        let dropped = try evaluator(1e30, beta: 100, policy: .drop).score(batch)
        #expect(dropped.reward[0] == 1 && dropped.reward[1].isNaN && dropped.failures.count == 1)
        #expect(dropped.objectives.allSatisfy { $0.scores[1].isNaN })
        #expect(try evaluator(1e30, beta: 100, policy: .impute(-2)).score(batch).reward == [1, -2])
        let assumed = errorMessage { try evaluator(1, beta: 100, policy: .impute(1e30)) }
        #expect(assumed == "reward large: 1e+30 as score is too large for float32 with weight 1 and beta 100; lower the weight or beta")
        let heavy = errorMessage { try evaluator(1, weight: 1e38, beta: nil, normalize: true) }
        #expect(heavy == "reward large: 10.0 as score is too large for float32 with weight 1e+38; lower the weight")

        #expect(try evaluator(3e38, beta: nil).score(batch).reward == [1, 3e38])
        #expect(try evaluator(1e30, weight: 0, beta: 100).score(batch).reward == [0, 0])
        #expect(try evaluator(1e12, beta: 100).score(batch).reward == [1, 1e12])
        let normalized = try evaluator(1e30, beta: 100, normalize: true)
        #expect(try normalized.score(batch).reward == [1, 1e30], "without statistics, as for the first ones")
        normalized.observe([ObjectiveScores("large/score", [0, 1, 2])])
        #expect(try normalized.score(batch).reward == [0, 10])
        // The log's sum is not bounded by float32.
        #expect(try evaluator(1, weight: 1e38, beta: nil).total([ObjectiveScores("large/score", [100])])[0] > 0.99e40)
    }

    @Test func errorsNameTheirSamples() throws {
        struct Broken: Error {}
        let broken = CallbackReward(name: "broken") { _ in throw Broken() }
        for (ids, names) in [([4, 4], "sample 4"), ([3, 1, 2], "samples 1 to 3"), ([17, 9, 2], "3 samples from 2 to 17")] {
            let seeds = ids.map(UInt64.init)
            let images = try RewardFixture.batch(count: ids.count).images
            let batch = try RewardBatch(images: images, prompts: ids.map { _ in "" }, sampleIDs: seeds, seeds: seeds)
            #expect(errorMessage { try broken.score(batch) } == "reward broken failed on \(names): Broken()")
        }
    }

    /// A run that goes on without faulty images loses exactly those that make their batch fail.
    @Test func picturesThatBreakTheirBatchAreFound() throws {
        nonisolated(unsafe) var calls = 0
        func score(badOnes: Set<UInt64>) throws -> RewardReport {
            calls = 0
            let touchy = CallbackReward(name: "touchy") { batch in
                calls += 1
                guard badOnes.isDisjoint(with: batch.sampleIDs) else { throw RewardError("reward touchy failed") }
                return batch.sampleIDs.map { Float($0) }
            }
            var specification = RewardSpecification(library: "touchy")
            specification.onFailure = .drop
            return try RewardEvaluator([(specification, touchy)]).score(RewardFixture.batch(count: 100))
        }
        for badOnes: Set<UInt64> in [[1], [1, 100], [50, 51], [13, 77]] {
            let report = try score(badOnes: badOnes)
            for id in 1...100 { #expect(badOnes.contains(UInt64(id)) ? report.reward[id - 1].isNaN : report.reward[id - 1] == Float(id)) }
        }
        #expect(try score(badOnes: Set(1...100)).reward.allSatisfy(\.isNaN))
        #expect(calls == 1 + 4 * 7 + 8)
    }

    /// Few calls fail by running out of time, and trajectories that were given up over them are not tried
    /// again.
    @Test func slowFailuresAreBounded() throws {
        nonisolated(unsafe) var calls: [(attempts: Int, isSlow: Bool)] = []
        func evaluator(badOnes: Set<UInt64>) throws -> RewardEvaluator {
            let hanging = CallbackReward(name: "hanging") { batch in
                let isBad = !badOnes.isDisjoint(with: batch.sampleIDs)
                calls.append((batch.attempts, isBad))
                guard isBad else { return batch.sampleIDs.map { Float($0) } }
                usleep(20_000)
                throw RewardError("reward hanging failed on \(batch.names()): it hung")
            }
            var specification = RewardSpecification(library: "hanging")
            specification.onFailure = .drop
            specification.timeout = 0.02
            return try RewardEvaluator([(specification, hanging)])
        }
        let batch = try RewardFixture.batch(count: 64)
        let one = try evaluator(badOnes: [50])
        let first = try one.score(batch)
        // Four halvings of 64 leave four.
        #expect(first.failures.keys.sorted() == [48, 49, 50, 51] && first.reward.count { $0.isNaN } == 4)
        #expect(calls.count { $0.isSlow } == 5)
        // Parts get one attempt, since the whole batch had two.
        #expect(calls[0].attempts == 2 && calls.dropFirst().allSatisfy { $0.attempts == 1 })
        calls = []
        let second = try one.score(batch)
        #expect(calls.count == 1 && !calls[0].isSlow && second.failures.keys.sorted() == [48, 49, 50, 51])
        #expect(second.firstFailure == "reward hanging is not asked for sample 49 again: another image of it took too long")
        // The same number with another seed is another trajectory.
        let other = try RewardBatch(images: batch.images.picking([0]), prompts: [""], sampleIDs: [50], seeds: [7])
        #expect(try one.score(other).firstFailure == "reward hanging failed on sample 50: it hung")

        calls = []
        #expect(try evaluator(badOnes: Set(1...64)).score(batch).failures.count == 64)
        #expect(calls.count { $0.isSlow } <= 6)
    }

    @Test func batchesMustFitTogether() throws {
        let images = try RewardFixture.batch(count: 2).images
        let text = errorMessage { try RewardBatch(images: images, prompts: [""], sampleIDs: [1, 2], seeds: [1, 2]) }
        #expect(text.contains("2 images came with 1 prompts"))
        #expect(errorMessage { try ImageBatch(pixels: [1, 2], count: 1, height: 1, width: 1) }.contains("2 bytes"))
    }
}

@Suite struct RewardMixtureTests {
    @Test func normalizationFollowsWhatWasObserved() throws {
        let byte = CallbackReward(name: "byte") { batch in (0..<batch.count).map { Float(batch.images[$0][0]) } }
        var specification = RewardSpecification(library: "byte", weight: 2)
        specification.normalize = true
        let evaluator = try RewardEvaluator([(specification, byte)])
        #expect(evaluator.wantsStatistics)
        let batch = try RewardFixture.batch(count: 3)
        #expect(try evaluator.score(batch).reward == [0, 2, 4])
        evaluator.observe(try evaluator.score(batch).objectives)
        evaluator.observe([ObjectiveScores("byte/score", [3, 4, .nan])])
        #expect(!evaluator.wantsStatistics)
        // Of 0, 1, 2, 3, 4: mean 2, deviation sqrt(2.5).
        let expected: [Float] = [-2, -1, 0].map { (value: Float) in 2 * value / Float(2.5).squareRoot() }
        let report = try evaluator.score(batch)
        for (value, wanted) in zip(report.reward, expected) { #expect(abs(value - wanted) < 1e-6) }
        #expect(evaluator.total(report.objectives) == [0, 2, 4])
        // As a checkpoint keeps them.
        let restored = try RewardEvaluator([(specification, byte)])
        restored.normalization = try JSONDecoder().decode([RunningMoments].self, from: JSONEncoder().encode(evaluator.normalization))
        #expect(try restored.score(batch).reward == report.reward)
        #expect(evaluator.fingerprint == "2.0 * normalized score of byte")
    }

    /// Scores that differ by rounding are not scaled up, and no score counts for more than ten deviations.
    @Test func normalizationIsBounded() {
        func normalized(_ value: Float, after values: [Float]) -> Float {
            var moments = RunningMoments()
            moments.add(values)
            return moments.normalized(value)
        }
        let half: Float = 0.5
        #expect(normalized(0.75, after: [half, half, half]) == 0.25)
        #expect(normalized(0.75, after: [half, half.nextUp, half]) < 0.2501)
        #expect(normalized(0.25, after: [0, 0, 0, 0]) == 0.25)
        #expect(normalized(1e6, after: [half, half]) == 10 && normalized(-1e6, after: [half, half]) == -10)
        #expect(normalized(7, after: [0, 1e-3, 0, 1e-3]) == 10)
        #expect(normalized(.nan, after: [0, 1]).isNaN)
        #expect(normalized(1e6, after: [3]) == 1e6, "one number is too few to tell")
    }

    /// A score far from all others does not silence them, at the beginning or later.
    @Test(arguments: [0, 1, 5], [1e30, -3e38, 1e4] as [Float]) func outliersDoNotSilence(epoch: Int, outlier: Float) {
        func epochs(_ outlier: Float?) -> RunningMoments {
            var moments = RunningMoments()
            for number in 0..<6 {
                var scores = (0..<16).map { 0.5 + 0.1 * sin(Float($0 + 16 * number)) }
                if let outlier, number == epoch { scores[3] = outlier }
                moments.add(scores)
            }
            return moments
        }
        let (without, with) = (epochs(nil), epochs(outlier))
        func spread(_ moments: RunningMoments) -> Float { moments.normalized(0.6) - moments.normalized(0.4) }
        #expect(spread(with) > 0.4 * spread(without), "\(spread(with)) of \(spread(without))")
        #expect(abs(with.normalized(0.5)) < 0.5)
    }

    /// A reward that rarely differs from its usual score is not taken for one with outliers.
    @Test func rareScoresCount() {
        var moments = RunningMoments()
        moments.add((0..<16).map { $0 == 5 ? 1 : 0 })
        #expect(abs(moments.normalized(1) - 3.75) < 1e-5 && abs(moments.normalized(0) + 0.25) < 1e-5)
    }

    /// Threads hold nothing once `concurrently` has returned.
    @Test func concurrentCallsHoldNothingAfterwards() {
        final class Held: Sendable {}
        for _ in 0..<300 {
            weak var gone: Held?
            do {
                let held = Held()
                gone = held
                #expect(concurrently(3) { index in withExtendedLifetime(held) { index } } == [0, 1, 2])
            }
            #expect(gone == nil)
        }
    }

    @Test func rewardsOfABatchAreScoredAtTheSameTime() throws {
        // Each waits for the other, so that one after the other would fail.
        let (left, right) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
        func meeting(_ name: String, _ mine: DispatchSemaphore, _ other: DispatchSemaphore) -> CallbackReward {
            CallbackReward(name: name) { batch in
                mine.signal()
                return Array(repeating: other.wait(timeout: .now() + 30) == .success ? 1 : 0, count: batch.count)
            }
        }
        let evaluator = try RewardEvaluator([
            (RewardSpecification(library: "l"), meeting("l", left, right)), (RewardSpecification(library: "r"), meeting("r", right, left)),
        ])
        #expect(try evaluator.score(RewardFixture.batch(count: 1)).reward == [2])
    }

    @Test func droppingALoggedRewardDropsNothing() throws {
        let nan = CallbackReward(name: "nan") { batch in Array(repeating: .nan, count: batch.count) }
        let one = CallbackReward(name: "one") { batch in Array(repeating: 1, count: batch.count) }
        var logged = RewardSpecification(library: "nan", weight: 0)
        logged.onFailure = .drop
        let report = try RewardEvaluator([(logged, nan), (RewardSpecification(library: "one"), one)]).score(RewardFixture.batch(count: 2))
        #expect(report.reward == [1, 1])
        #expect(report.objectives["nan/score"]?.allSatisfy { $0.isNaN } == true)
    }

    @Test(arguments: [
        ("on_failure=ignore", "fail, drop or impute:NUMBER"), ("on_failure=impute:x", "impute:NUMBER"), ("timeout=0", "above 0"),
        ("workers=0", "1 to 64"), ("isolation=none,workers=2", "exclude each other"), ("normalize=yes", "true or false"),
        ("isolation=maybe", "worker or none"), ("a=(", "lacks its other half"),
    ]) func hostKeysAreChecked(settings: String, part: String) {
        #expect(errorMessage { try RewardSpecification("x,\(settings)") }.contains(part))
    }

    /// A Python is named for its files, and for names that its packages may have.
    @Test func pythonsAreForFilesAndPackages() throws {
        for library in ["libx.so", "./libx.so", "c:x"] {
            #expect(
                errorMessage { try RewardSpecification("\(library),python=python3") }.contains("python=python3 is for rewards in .py files")
            )
        }
        #expect(try RewardSpecification("x.py,python=/p").python == "/p" && RewardSpecification("x,python=/p").python == "/p")
        #expect(try RewardSpecification("x").python == nil)
        try withFolder { folder in
            let file = folder.appendingPathComponent("x.py")
            try Data().write(to: file)
            #expect(errorMessage { _ = try RewardSpecification("\(file.path),isolation=none").open() }.contains("leave isolation=none out"))
        }
        // Of a Python that was named, only the packages count, also where a plugin has the name.
        let error = errorMessage { try RewardSpecification("jpeg_compressibility,python=/no/python").locate() }
        #expect(error == "reward jpeg_compressibility: /no/python: no such program; name a Python, such as venv/bin/python")
    }
}
