import Foundation
import Support
import TestSupport
import Testing

@testable import Images
@testable import Rewards

@Suite struct RewardPluginTests {
    @Test(arguments: ["c -std=c11", "c++ -std=c++11", "c++ -std=c++20"])
    func minimalPluginCompilesCleanly(language: String) throws {
        let flags = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-x"] + language.split(separator: " ").map(String.init)
        let library = try RewardFixture.library("minimal", flags)
        #expect(library.description.name == "brightness")
        #expect(library.description.threadMode == .concurrent)
        #expect(library.description.largestBatch == 0)
        let scores = try RewardPlugin(library).score(RewardFixture.batch(count: 3)).values
        #expect(scores == [0, 1 / 255, 2 / 255])
    }

    @Test func tellsAboutItselfBeforeAModelIsLoaded() throws {
        let library = try RewardFixture.library("probe").description
        #expect(library.objectives.map(\.name) == ["mean", "call_size", "prompt_bytes", "overlaps"])
        #expect(library.objectives.map(\.direction) == [.maximize, .minimize, .maximize, .maximize])
        #expect(library.options == [.init(key: "fault", defaultValue: "none", detail: "what goes wrong")])
        #expect(library.devices == ["cpu"])
        #expect(library.largestBatch == 3)
        #expect(library.threadMode == .serialized)
        #expect(library.isDeterministic)
    }

    @Test func splitsIntoTheLargestBatchAndKeepsOrder() throws {
        let reward = try RewardPlugin(RewardFixture.library("probe"))
        let prompts: [Prompt] = ["", "a", "ä", "a red boot", "", "\u{1F45F}", "a\0b"]
        let scores = try reward.score(RewardFixture.batch(count: 7, prompts: prompts)).values
        func column(_ objective: Int) -> [Float] { (0..<7).map { scores[$0 * 4 + objective] } }
        #expect(column(0) == [0, 1, 2, 3, 4, 5, 6])
        #expect(column(1) == [3, 3, 3, 3, 3, 3, 1])
        #expect(column(2) == [0, 1, 2, 10, 0, 4, 3])
    }

    @Test func serializedCallsNeverOverlap() throws {
        let library = try RewardFixture.library("probe")
        let rewards = try (0..<4).map { _ in try RewardPlugin(library) }
        let batch = try RewardFixture.batch(count: 9)
        let scores = Collected()
        DispatchQueue.concurrentPerform(iterations: 12) { index in
            scores.append((try? rewards[index % 4].score(batch).values) ?? [])
        }
        #expect(scores.values.count == 12 * 9 * 4)
        #expect(stride(from: 3, to: scores.values.count, by: 4).allSatisfy { scores.values[$0] == 0 })
    }

    @Test(arguments: [
        ("create", ["probe", "no weights at {\"fault\":\"create\"}"]),
        ("nan", ["probe", "cannot score sample 5: nan as mean", "finite"]),
        ("infinite", ["probe", "sample 5: inf as mean"]),
        ("unwritten", ["probe", "sample 5: prompt_bytes is unwritten"]),
        ("status", ["probe", "sample 5", "invalid"]),
        ("score", ["probe", "samples 1 to 3", "    "]),
        ("deadline", ["probe", "samples 1 to 3: the deadline passed"]),
    ])
    func faultsNamePluginAndSample(fault: String, parts: [String]) throws {
        let library = try RewardFixture.library("probe")
        let text = errorMessage {
            let reward = try RewardPlugin(library, options: ["fault": fault], timeout: 10)
            return try RewardEvaluator([(RewardSpecification(library: "probe"), reward)]).score(RewardFixture.batch(count: 7))
        }
        for part in parts { #expect(text.contains(part), "\(text)") }
        #expect(!text.contains("\n"))
    }

    @Test(arguments: [
        ("ENTRY", "does not export dag_reward_entry"),
        ("VERSION", "answered ABI version 99"),
        ("REFUSAL", "needs ABI 7, the host speaks up to 1"),
        ("SHORT", "struct_size 8 in its info"),
        ("FORMATS", "DAG_REWARD_U8_NHWC"), ("OPTION=\"weight\"", "option weight"), ("OPTION=\"timeout\"", "option timeout"),
    ])
    func brokenLibrariesAreRefused(fault: String, part: String) {
        let text = errorMessage { try RewardFixture.library("probe", ["-DFAULT_\(fault)"]) }
        #expect(text.contains("probe") && text.contains(part), "\(text)")
    }

    /// Names become keys, and options must be possible to write: both are validated when a library is opened.
    @Test func namesAreChecked() throws {
        func description(_ name: String, objective: String = "score", option: String = "size") -> RewardDescription {
            RewardDescription(
                name: name, version: "1", detail: "", license: "", source: "", objectives: [RewardObjective(objective)],
                options: [.init(key: option, defaultValue: "", detail: "")], takesOtherOptions: false, devices: ["cpu"],
                threadMode: .serialized, isDeterministic: true, largestBatch: 0)
        }
        try description("clip_score_2").validateNames("reward x")
        let refused = [
            (description("My Reward"), "calls its reward `My Reward`"), (description(""), "calls its reward ``"),
            (description("a", objective: "a/b"), "calls its objective `a/b`"),
            (description("a", option: "a=b"), "declares the option `a=b`"),
            (description("a", option: ""), "declares the option ``"), (description("a", option: "timeout"), "declares the option timeout"),
        ]
        for (description, part) in refused {
            let text = errorMessage { try description.validateNames("reward plugin libx.so") }
            #expect(text.hasPrefix("reward plugin libx.so \(part)"), "\(text)")
        }
        #expect(errorMessage { try RewardFixture.library("careless", ["-DNAME=\"Two Words\""]) }.contains("`Two Words`"))
        #expect(RewardDescription.name(ofFile: "SDL2-2") == "sdl2_2" && RewardDescription.name(ofFile: "Über my.Reward") == "ber_my_reward")
    }

    /// A plugin's message becomes one line, without commands to the terminal.
    @Test func messagesAreOneLine() throws {
        let text = RewardError("one\r\ntwo\u{1b}[31m red\u{9b}m\u{2028}three\n").description
        #expect(text == "one two [31m red m three")
        let batch = try RewardFixture.batch(count: 1)
        let reward = CallbackReward(name: "x") { _ in [1] }
        let scores = try RewardScores(RewardResult(values: [1], reasons: [0: "a\nb"]), of: reward, for: batch)
        #expect(scores.failures == [0: "reward x cannot score sample 1: a b"] && scores.values[0].isNaN)
    }

    /// A call has one message: samples that share it say so, beside their own status.
    @Test func samplesThatShareAMessageSaySo() throws {
        func reasons(_ statuses: [Int32]) throws -> [Int: String] {
            let function = ScoreFunction(largestBatch: 0, timeout: nil) { _, result, error in
                for (sample, status) in statuses.enumerated() {
                    result.pointee.scores[sample] = 1
                    result.pointee.statuses[sample] = status
                }
                strcpy(error.pointee.message, "no face")
                return 0
            }
            return try function.result(RewardFixture.batch(count: 3), of: CallbackReward(name: "x") { _ in [] }).reasons
        }
        #expect(try reasons([0, 1, 0]) == [1: "no face"])
        #expect(
            try reasons([1, 0, 3]) == [
                0: "invalid setting or input; one message for the 2 that failed in this call: no face",
                2: "a file or service could not be reached; one message for the 2 that failed in this call: no face",
            ])
    }

    @Test func filesThatAreNoLibrariesAreRefused() throws {
        try withFolder { folder in
            let path = folder.appendingPathComponent("libtext.so").path
            try "not a library".write(toFile: path, atomically: true, encoding: .utf8)
            let text = errorMessage { try RewardLibrary(path: path) }
            #expect(text.contains("libtext.so cannot be loaded"), "\(text)")
        }
    }

    @Test func unknownKeysAndDevicesAreErrors() throws {
        let library = try RewardFixture.library("probe")
        let key = errorMessage { try RewardPlugin(library, options: ["qualty": "9"]) }
        #expect(key.hasPrefix("reward probe has no option qualty; it knows fault; this program's own are weight, "))
        let none = errorMessage { try RewardPlugin(RewardFixture.library("minimal"), options: ["a": "1"]) }
        #expect(none.hasPrefix("reward brightness has no option a; it has none; this program's own are weight, "))
        let device = errorMessage { try RewardPlugin(library, device: "cuda:0") }
        #expect(device == "reward probe does not run on cuda:0; it runs on cpu")
    }

    @Test(arguments: [
        ("90", "90"), ("-0.10", "-0.10"), ("1e3", "1e3"), ("true", "true"), ("false", "false"), ("4:2:0", #""4:2:0""#), ("", #""""#),
        ("007", #""007""#), ("nan", #""nan""#), ("null", #""null""#), ("[1]", #""[1]""#), ("\"a/\n", #""\"a/\n""#),
    ])
    func configurationIsJSON(value: String, literal: String) throws {
        let library = try RewardFixture.library("probe")
        #expect(RewardSettings(["fault": value], for: library.description).json == "{\"fault\":\(literal)}")
    }

    @Test func fingerprintFollowsSettingsAndThePluginsOwn() throws {
        let library = try RewardLibrary(path: RewardSpecification("jpeg_compressibility").locate().path)
        let usual = try RewardPlugin(library).fingerprint
        #expect(usual == (try RewardPlugin(library, options: ["quality": "95"]).fingerprint))
        #expect(usual != (try RewardPlugin(library, options: ["quality": "94"]).fingerprint))
        #expect(usual == "jpeg_compressibility 1.0.0 quality=95 subsampling=4:2:0")
        #expect(try RewardPlugin(RewardFixture.library("probe")).fingerprint == "probe 1.0.0 fault=none fault none")
        // A fingerprint of everything that the scores depend on is taken as it is.
        #expect(try RewardPlugin(RewardFixture.library("probe", ["-DWHOLE_FINGERPRINT"])).fingerprint == "probe 1.0.0 fault none")
    }

    @Test func selfCheckFindsNonsense() throws {
        let library = try RewardFixture.library("probe")
        let images = try RewardFixture.batch(count: 3).images
        try RewardPlugin(library).selfCheck(images: images)
        let random = errorMessage { try RewardPlugin(library, options: ["fault": "random"]).selfCheck(images: images) }
        #expect(random.contains("probe calls itself deterministic"), "\(random)")
        let first = errorMessage { try RewardPlugin(library, options: ["fault": "first"]).selfCheck(images: images) }
        #expect(first.contains("with the batch reversed"), "\(first)")
        // Small scores are held to the same rule, and rounding is allowed for.
        let small = CallbackReward(name: "small") { batch in (0..<batch.count).map { 1e-6 * Float($0) } }
        #expect(errorMessage { try small.selfCheck(images: images) }.contains("with the batch reversed"))
        nonisolated(unsafe) var calls = 0
        try CallbackReward(name: "rounding") { batch in
            calls += 1
            return batch.sampleIDs.map { 1e-6 * (Float($0) + 1e-4 * Float(calls)) }
        }.selfCheck(images: images)
    }

    /// The parts of a batch share one deadline.
    @Test func aBatchHasOneDeadline() throws {
        nonisolated(unsafe) var deadlines: [UInt64] = []
        let function = ScoreFunction(largestBatch: 2, timeout: 10) { batch, result, _ in
            deadlines.append(batch.pointee.deadline)
            usleep(1000)
            for sample in 0..<Int(batch.pointee.count) { result.pointee.scores[sample] = 1 }
            return 0
        }
        let reward = CallbackReward(name: "parts") { _ in [] }
        #expect(try function.result(RewardFixture.batch(count: 5), of: reward).values == [1, 1, 1, 1, 1])
        #expect(deadlines.count == 3 && Set(deadlines).count == 1 && deadlines[0] > 0)
    }
}

private final class Collected: @unchecked Sendable {
    private let lock = NSLock()
    private(set) var values: [Float] = []

    func append(_ more: [Float]) { lock.withLock { values += more } }
}
