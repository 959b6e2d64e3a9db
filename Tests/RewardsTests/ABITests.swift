import CDAGCore
import Foundation
import Support
import TestSupport
import Testing

@testable import Images
@testable import Rewards

/// The reward ABI may only grow: see Tests/ABI/README.md.
@Suite struct ABIGateTests {
    @Test func headerIsAsReleased() throws {
        let gate = try Shell.run(["scripts/abi_gate.sh"], in: repository)
        #expect(gate.status == 0 && gate.output == "abi_gate: the header is as released\n", "\(gate)")
    }

    /// What an edit of the header may break, and what is said of it: by the assertions of anchor.c, and by abidiff alone.
    struct Break: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let old: String
        let new: String
        let asserted: String
        /// nil: abidiff does not see it.
        let found: String?
        var header = "dag_reward.h"
    }

    static let breaks = [
        Break(
            testDescription: "reordered fields", old: "    uint32_t height;     ///< pixels\n    uint32_t width;      ///< pixels\n",
            new: "    uint32_t width;\n    uint32_t height;\n", asserted: "dag_reward_images.height has moved",
            found: "dag_reward_images changed"),
        Break(
            testDescription: "changed type of the same size", old: "uint64_t deadline;", new: "int64_t deadline;",
            asserted: "dag_reward_batch.deadline has changed its type", found: "dag_reward_batch changed"),
        Break(
            testDescription: "pointer to other constness", old: "    const dag_reward_images *images;",
            new: "    dag_reward_images *images;",
            asserted: "dag_reward_batch.images has changed its type", found: nil),
        Break(
            testDescription: "removed function pointer", old: "    void (*destroy)(void *instance);\n", new: "",
            asserted: "dag_reward_plugin has lost a field", found: "dag_reward_plugin changed"),
        Break(
            testDescription: "changed function", old: "void (*write)(const char *line);", new: "int32_t (*write)(const char *line);",
            asserted: "dag_reward_log.write has changed its type", found: "dag_reward_log changed"),
        Break(
            testDescription: "renamed field", old: "const uint64_t *seeds;", new: "const uint64_t *random;", asserted: "seeds",
            found: "dag_reward_batch changed"),
        Break(
            testDescription: "inserted field", old: "    const char *name;           ", new: "    uint64_t inserted; const char *name; ",
            asserted: "has moved", found: "changed"),
        Break(
            testDescription: "field appended to a struct that never changes", old: "const char *value;",
            new: "const char *value; const char *more;", asserted: "dag_reward_setting may not change its size",
            found: "dag_reward_setting changed"),
        Break(
            testDescription: "padding at the end", old: "    int64_t strides[4];", new: "    int64_t strides[4]; uint32_t more;",
            asserted: "padding struct size", found: "padding struct size"),
        Break(
            testDescription: "changed enumerator", old: "DAG_REWARD_IO = 3", new: "DAG_REWARD_IO = 7",
            asserted: "DAG_REWARD_IO has changed its value", found: nil),
        Break(
            testDescription: "changed constant", old: "0x7fc0da61u", new: "0x7fc0da62u",
            asserted: "DAG_REWARD_UNWRITTEN has changed its value", found: nil),
        Break(
            testDescription: "changed name", old: "LOG \"dag.log/1\"", new: "LOG \"dag.log/2\"",
            asserted: "DAG_REWARD_LOG has changed its value",
            found: nil),
        Break(
            testDescription: "reordered fields of the trainer's", old: "    uint64_t update;", new: "    uint32_t update, more;",
            asserted: "dag_status.update has changed its type", found: "dag_status changed", header: "dagcore.h"),
        Break(
            testDescription: "changed function of the trainer's", old: "uint32_t count, dag_pictures", new: "uint64_t count, dag_pictures",
            asserted: "conflicting types for", found: "conflicting types for", header: "dagcore.h"),
        Break(
            testDescription: "removed function of the trainer's", old: "DAG_EXPORT int32_t dag_trainer_save(dag_trainer *trainer);\n",
            new: "", asserted: "no previous prototype for", found: "no previous prototype for", header: "dagcore.h"),
        Break(
            testDescription: "function of the trainer's that is new to the gate", old: "DAG_EXPORT int32_t dag_trainer_save",
            new: "DAG_EXPORT int32_t dag_trainer_pause(dag_trainer *trainer);\nDAG_EXPORT int32_t dag_trainer_save",
            asserted: "dagcore.h has dag_trainer_pause, which nothing holds in place", found: "dagcore.h has dag_trainer_pause",
            header: "dagcore.h"),
        Break(
            testDescription: "changed status", old: "DAG_BUSY = 3", new: "DAG_BUSY = 6", asserted: "DAG_BUSY has changed its value",
            found: nil, header: "dagcore.h"),
    ]

    @Test(.slow, arguments: breaks) func breaksAreRefused(seeded: Break) throws {
        let asserted = try Self.gate(replacing: seeded.old, by: seeded.new, in: seeded.header)
        #expect(asserted.status == 1 && Self.firstLine(asserted.output).hasPrefix("abi_gate: refused: "), "\(asserted.output)")
        #expect(Self.firstLine(asserted.output).contains(seeded.asserted), "\(asserted.output)")
        guard let found = seeded.found else { return }
        let dumped = try Self.gate(replacing: seeded.old, by: seeded.new, in: seeded.header, withAssertions: false)
        #expect(dumped.status == 1 && Self.firstLine(dumped.output).contains(found), "\(dumped.output)")
    }

    @Test func appendedFieldsPassWithANotice() throws {
        let (old, new) = ("    uint32_t largest_batch;", "    uint32_t largest_batch, more, others;")
        let gate = try Self.gate(replacing: old, by: new)
        #expect(gate.status == 0, "\(gate)")
        #expect(
            gate.output.hasPrefix(
                "abi_gate: appended: dag_reward_info: uint32_t more, uint32_t others. What is built already keeps working."))
        #expect(gate.output.contains("scripts/abi_gate.sh --accept"))
        let accepted = try Self.gate(replacing: old, by: new, ["--accept"], then: [])
        #expect(accepted.output == "abi_gate: the header is as released\n", "\(accepted.output)")
        let refused = try Self.gate(replacing: "uint64_t deadline;", by: "int64_t deadline;", ["--accept"])
        #expect(refused.status == 1, "a break cannot be accepted")
    }

    @Test func exportsAreCounted() throws {
        try withFolder { folder in
            let library = folder.appendingPathComponent("libloud.so").path
            let source = repository.appendingPathComponent("Tests/Plugins/minimal.c").path
            let arguments = ["-shared", "-fPIC", "-I", repository.appendingPathComponent("include").path, "-o", library, source]
            func exports() throws -> String {
                try Shell.run(["scripts/abi_gate.sh", "--exports", library], in: repository).output
            }
            try compile(arguments)
            #expect(try exports().contains("abi_gate: exported symbols are as they should be"))
            try compile(["-Dstatic="] + arguments)
            #expect(try exports().contains("symbols besides dag_reward_entry, such as"))
            // Of a unique symbol the loader lets a process have only one.
            let unique = folder.appendingPathComponent("unique.s").path
            try ".globl unique\n.type unique, @gnu_unique_object\n.data\nunique: .long 1\n.size unique, 4\n".write(
                toFile: unique, atomically: true, encoding: .utf8)
            try compile(["-fvisibility=hidden"] + arguments + [unique])
            #expect(try exports().contains("exports 1 symbols besides dag_reward_entry, such as unique"))
            let check = try Shell.run(
                [programs.appendingPathComponent("dag-reward").path, "check", library, "--only", "exports"], in: folder)
            #expect(check.output.contains("WARN") && check.output.contains("exports 1 more symbols, such as unique"), "\(check.output)")
            try compile(["-Ddag_reward_entry=other"] + arguments)
            #expect(try exports().contains("does not export dag_reward_entry"))
        }
    }

    @Test(arguments: ["jpeg_compressibility", "warmth", "cifar_classifier", "hps", "http"])
    func shippedPluginsExportOneFunction(name: String)
        throws
    {
        let path = URL(fileURLWithPath: try RewardSpecification(name).locate().path).path
        let gate = try Shell.run(["scripts/abi_gate.sh", "--exports", path], in: repository)
        #expect(gate.status == 0, "\(gate)")
    }

    /// Runs the gate in a copy of what it reads, with an edited header; a second time with other arguments if asked to.
    private static func gate(
        replacing old: String, by new: String, in header: String = "dag_reward.h", withAssertions: Bool = true, _ arguments: [String] = [],
        then again: [String]? = nil
    ) throws -> Outcome {
        try withFolder { copy in
            for part in ["include", "Sources/C/CDAGCore", "Tests/ABI", "scripts/abi_gate.sh"] {
                let place = copy.appendingPathComponent(part)
                try FileManager.default.createDirectory(at: place.deletingLastPathComponent(), withIntermediateDirectories: true)
                try FileManager.default.copyItem(at: repository.appendingPathComponent(part), to: place)
            }
            let header = copy.appendingPathComponent("include/\(header)")
            let text = try String(contentsOf: header, encoding: .utf8)
            try #require(text.components(separatedBy: old).count >= 2, "the header has no `\(old)`")
            let place = try #require(text.range(of: old))
            try text.replacingCharacters(in: place, with: new).write(to: header, atomically: true, encoding: .utf8)
            if !withAssertions { try Data().write(to: copy.appendingPathComponent("Sources/C/CDAGCore/anchor.c")) }
            let first = try Shell.run(["scripts/abi_gate.sh"] + arguments, in: copy)
            guard let again else { return first }
            return try Shell.run(["scripts/abi_gate.sh"] + again, in: copy)
        }
    }

    private static func firstLine(_ text: String) -> Substring { text.split(separator: "\n").first ?? "" }
}

/// Structs of the header's first release are read when the header has more.
@Suite struct GrowthTests {
    private struct Grown: GrowingStruct {
        var struct_size: UInt32 = 0
        var number: UInt32 = 0
        var appended: UInt64 = 0
        static var firstSize: Int { 8 }
    }

    private func read(_ words: [UInt32], count: UInt32) throws -> [Grown] {
        try words.withUnsafeBytes { bytes in
            try TableReader(subject: "a plugin").elements(bytes.baseAddress!.assumingMemoryBound(to: Grown.self), count, "things")
        }
    }

    @Test func shorterAndLongerStructsAreRead() throws {
        let old = try read([8, 11, 8, 12], count: 2)
        #expect(old.map(\.number) == [11, 12] && old.map(\.appended) == [0, 0])
        let new = try read([24, 11, 7, 0, 99, 99, 24, 12, 8, 0, 99, 99], count: 2)
        #expect(new.map(\.number) == [11, 12] && new.map(\.appended) == [7, 8])
        #expect(
            errorMessage { try read([4, 0], count: 1) } == "a plugin gives struct_size 4 in its things, where version 1 has at least 8")
    }

    /// The sizes are those that the C side asserts.
    @Test func firstSizesAreThoseOfTheFirstRelease() throws {
        let anchor = try String(contentsOf: repository.appendingPathComponent("Sources/C/CDAGCore/anchor.c"), encoding: .utf8)
        let sizes: [(String, any GrowingStruct.Type)] = [
            ("error", dag_reward_error.self), ("host", dag_reward_host.self), ("objective", dag_reward_objective.self),
            ("option", dag_reward_option.self), ("info", dag_reward_info.self), ("config", dag_reward_config.self),
            ("images", dag_reward_images.self), ("batch", dag_reward_batch.self), ("result", dag_reward_result.self),
            ("plugin", dag_reward_plugin.self), ("fingerprint", dag_reward_fingerprint.self),
        ]
        for (name, type) in sizes { #expect(anchor.contains("GROWS(dag_reward_\(name), \(type.firstSize));")) }
    }
}

/// A plugin built with the first release's header keeps working, and so does one whose structs are longer than today's.
@Suite struct FirstReleaseTests {
    @Test(arguments: [[], ["-DLONGER"]]) func itsPluginScores(flags: [String]) throws {
        let library = try withFolder { folder in
            let v1 = repository.appendingPathComponent("Tests/ABI/v1")
            let output = folder.appendingPathComponent("libfirst_release.so").path
            try compile(
                flags + [
                    "-shared", "-fPIC", "-fvisibility=hidden", "-I", v1.path, "-o", output, v1.appendingPathComponent("plugin.c").path,
                ])
            return try RewardLibrary(path: output)
        }
        let description = library.description
        #expect(description.name == "first_release" && description.version == "1.0.0" && description.detail == "what the host says")
        #expect(description.license == "Apache-2.0" && description.source == "the tests")
        #expect(description.isDeterministic && !description.takesOtherOptions)
        #expect(description.threadMode == .perInstance && description.largestBatch == 2 && description.devices == ["cpu"])
        #expect(
            description.options == [
                .init(key: "factor", defaultValue: "1", detail: "0 to 1"), .init(key: "unit", defaultValue: "none", detail: "any text"),
            ])
        let names = ["pixels", "height", "width", "count", "prompt", "metadata", "sample_id", "seed", "deadline", "factor"]
        #expect(description.objectives.map(\.name) == names)
        #expect(description.objectives.map(\.direction) == names.map { $0 == "height" ? .minimize : .maximize })

        let reward = try RewardPlugin(library, options: ["factor": "0.5"], timeout: 60)
        #expect(reward.fingerprint == "first_release 1.0.0 factor=0.5 unit=none factor 0.5")
        let pictures = (1...3).map { n in RewardFixture.picture(height: 2, width: 5) { y, x, channel in n * (y * 15 + x * 3 + channel) } }
        let images = try ImageBatch(pixels: Array(pictures.joined()), count: 3, height: 2, width: 5)
        func batch(_ texts: [String]) throws -> RewardBatch {
            let prompts = zip(texts, ["{}", "{\"a\":1}", "{}"]).map { Prompt($0, metadata: $1) }
            return try RewardBatch(images: images, prompts: prompts, sampleIDs: [7, 8, 9], seeds: [70, 80, 90])
        }
        let scores = try reward.score(batch(["", "ä", "a boot"])).values
        #expect(
            scores == [
                435, 2, 5, 2, 0, 2, 7, 70, 1, 0.5,
                870, 2, 5, 2, 2, 7, 8, 80, 1, 0.5,
                1305, 2, 5, 1, 6, 2, 9, 90, 1, 0.5,
            ])
        #expect(try reward.result(batch(["", "", "nine char"])).reasons == [2: "nine is not a length"])
        let settings = errorMessage { try RewardPlugin(library, options: ["factor": "0.25"]) }
        #expect(settings == #"reward first_release cannot be made: settings {"factor":0.25,"unit":"none"}"#)
    }
}
