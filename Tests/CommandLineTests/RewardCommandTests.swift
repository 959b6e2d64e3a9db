import Foundation
import TestSupport
import Testing

/// dag-reward as a plugin's author would use it.
@Suite(.serialized) struct RewardCommandTests {
    private let temporary: TemporaryFolder
    private var folder: URL { temporary.url }

    init() throws { temporary = try TemporaryFolder() }

    private func reward(_ arguments: [String], environment: [String: String] = [:]) throws -> Outcome {
        try Shell.run(["dag-reward"] + arguments, in: folder, environment: environment)
    }

    private func plugin(_ source: String, _ flags: [String] = []) throws -> String { try TestSupport.plugin(source, flags, in: folder) }

    private struct Finding: Decodable { let name, status, detail: String }

    private func check(_ reward: String, _ more: [String] = []) throws -> (status: Int32, findings: [Finding]) {
        let outcome = try self.reward(["check", reward, "--json"] + more)
        return (outcome.status, try JSONDecoder().decode([Finding].self, from: Data(outcome.out.utf8)))
    }

    @Test(.slow, arguments: ["jpeg_compressibility", "warmth", "minimal", "careless"]) func goodPluginsPass(name: String) throws {
        let library = ["minimal", "careless"].contains(name) ? try plugin(name) : name
        let (status, findings) = try check(library)
        let bad = findings.filter { !["pass", "info", "warn"].contains($0.status) }
        #expect(status == 0 && bad.isEmpty && findings.count == 26, "\(bad)")
    }

    private static let bugs: [(bug: String, check: String, part: String)] = [
        ("silent", "bad_values", "without a message"), ("create_twice", "create", "SIGABRT"),
        ("strides", "padded_rows", "scores differ"), ("batch_size_field", "newer_host", "another batch"),
        ("one_pixel", "picture_sizes", "SIGABRT"),
        ("hang", "batch_sizes", "took longer"), ("hang_together", "batch_sizes", "took longer"), ("exit", "batch_sizes", "exit code 0"),
        ("many", "batch_sizes", "too many"),
        ("prompt", "prompts", "no prompt"), ("write_input", "inputs_untouched", "SIGSEGV"), ("read_beyond", "scores_in_bounds", "SIGSEGV"),
        ("random", "repeatable", "a second time"), ("neighbours", "independent", "depends on the batch"),
        ("small_neighbours", "independent", "depends on the batch"), ("collide", "threads", "busy"), ("nan", "all_written", "nan"),
        ("unwritten", "all_written", "not written"), ("status", "all_written", "unknown status 99"),
        ("late", "deadline", "after its deadline"),
        ("flat", "discriminating", "all got the same mean"), ("race", "threads", "that overlapped"),
        ("one_too_many", "scores_in_bounds", "SIGSEGV"),
        ("one_too_few", "scores_in_bounds", "SIGSEGV"), ("leak", "memory", "bytes are lost"), ("small_leak", "memory", "bytes are lost"),
        ("descriptors", "memory", "descriptors"),
        ("double_free", "unload", "SIGABRT"), ("largest", "batch_sizes", "SIGABRT"), ("create_leak", "create", "bytes are lost"),
        ("plain", "plain_pictures", "a black image"), ("no_end", "all_written", "without a NUL"),
        ("offset", "repeatable", "a second time"),
    ]

    /// Each bug is found by the check that is there for it.
    @Test(.slow, arguments: bugs) func bugsAreFound(bug: String, check: String, part: String) throws {
        let (status, findings) = try self.check("\(plugin("careless")),bug=\(bug)", ["--only", check, "--time-limit", "10"])
        #expect(status == (bug == "flat" ? 0 : 1) && findings.count == 1)
        #expect(findings[0].status == (bug == "flat" ? "warn" : "fail") && findings[0].detail.contains(part), "\(findings)")
    }

    /// A child that the reward leaves behind does not delay the check, and ends with it.
    @Test func childrenEndWithTheirCheck() throws {
        let library = try plugin("careless")
        // It lives for a minute.
        #expect(try check("\(library),bug=child", ["--only", "batch_sizes", "--time-limit", "40"]).status == 0)
        let left = try FileManager.default.contentsOfDirectory(atPath: "/proc").filter { Int($0) != nil }.filter {
            (try? Data(contentsOf: URL(fileURLWithPath: "/proc/\($0)/cmdline")))?.range(of: Data(library.utf8)) != nil
        }
        #expect(left.isEmpty)
    }

    private var image: String { "\(repository.path)/Tests/Goldens/rewards/words.png" }

    /// A crash is one line, without the backtrace of a language's runtime.
    @Test func crashesAreOneLine() throws {
        let outcome = try reward(["score", "\(plugin("faulty")),fault=segv", image])
        #expect(outcome.error.isEmpty && outcome.out.contains("twice: it was ended by SIGSEGV"), "\(outcome)")
    }

    /// The program learns how its processes ended even if its parent ignores SIGCHLD.
    @Test func ignoredSignalsAreRestored() throws {
        func ignoring(_ arguments: [String]) throws -> Outcome {
            return try Shell.run(["sh", "-c", "trap '' CHLD; exec \"$0\" \"$@\"", "dag-reward"] + arguments, in: folder)
        }
        let faulty = try plugin("faulty")
        #expect(try ignoring(["score", "\(faulty),fault=segv", image]).out.contains("SIGSEGV"))
        #expect(try ignoring(["check", faulty, "--only", "create", "--time-limit", "60"]).status == 0)
    }

    /// Output of a Python file arrives to the last line, and modules in the current folder are not imported.
    @Test(.python) func pythonFilesPrintAndImportTheirOwn() throws {
        let file = folder.appendingPathComponent("prints.py").path
        try "import atexit\natexit.register(print, 'bye')\ndef score(a, b, c):\n  print('scoring')\n  return [1] * len(a)".write(
            toFile: file, atomically: true, encoding: .utf8)
        let current = folder.appendingPathComponent("current")
        try FileManager.default.createDirectory(at: current, withIntermediateDirectories: true)
        for name in ["json", "socket", "numpy"] {
            try "raise SystemExit('not this one')".write(
                to: current.appendingPathComponent("\(name).py"), atomically: true, encoding: .utf8)
        }
        let outcome = try Shell.run(["dag-reward", "score", "\(file),python=\(python)", image], in: current)
        #expect(outcome.status == 0 && outcome.error == "scoring\nbye\n", "\(outcome)")
    }

    /// Scores of a reward that is not deterministic may differ, but none may be missing.
    @Test func randomRewardsAreNotCompared() throws {
        let library = try plugin("careless", ["-DRANDOM"])
        let checks = ["deadline", "threads", "padded_rows"].flatMap { ["--only", $0] }
        #expect(try check("\(library),bug=random", checks).findings.map(\.status) == ["pass", "pass", "pass"])
        #expect(try check("\(library),bug=late", checks).findings.map(\.status) == ["pass", "pass", "pass"])
        #expect(try check("\(library),bug=nan", checks).findings.map(\.status) == ["fail", "fail", "fail"])
        #expect(try check("\(library),bug=collide", checks).findings.map(\.status) == ["pass", "pass", "fail"])
    }

    @Test func compiledInBugsAreFound() throws {
        #expect(try check(plugin("careless", ["-DANY_VERSION"]), ["--only", "versions"]).findings[0].detail.contains("1000 to 2000"))
        #expect(
            try check(plugin("careless", ["-DNAME=\"Two Words\""]), ["--only", "description"]).findings[0].detail.contains(
                "lower-case words"))
        #expect(try check(plugin("careless", ["-DANOTHER_SYMBOL"]), ["--only", "exports"]).findings[0].detail.contains("another_symbol"))
        let most = try check("\(plugin("careless", ["-DLARGEST=128"])),bug=largest", ["--only", "batch_sizes"]).findings[0]
        #expect(most.status == "fail" && most.detail.contains("SIGABRT"), "\(most)")
        let serialized = try plugin("careless", ["-DMODE=DAG_REWARD_SERIALIZED"])
        #expect(try check(serialized, ["--only", "threads"]).status == 0)
        #expect(try check("\(serialized),bug=thread", ["--only", "threads"]).findings[0].detail.contains("another thread"))
        #expect(try check(plugin("careless", ["-DOPEN"]), ["--only", "unknown_options"]).findings[0].detail.contains("no_such_option"))
    }

    @Test func cFunctionsAreCheckedToo() throws {
        let (status, findings) = try check(
            "c:libz.so.1,score=unsigned long crc32(unsigned long start = 0, const uint8_t *pixels, unsigned int size)")
        #expect(status == 0 && findings.count == 11, "\(findings)")
        let wrong = try check("c:libz.so.1,score=int nothing(int width)", ["--only", "opens"])
        #expect(wrong.status == 1 && wrong.findings[0].detail.contains("no function nothing"), "\(wrong)")
    }

    @Test(.python) func pythonFilesAreCheckedToo() throws {
        func check(_ body: String, only check: String) throws -> Finding {
            let file = folder.appendingPathComponent("r.py").path
            try "import os, struct\nkept = []\ndef score(images, prompts, metadata):\n  \(body)".write(
                toFile: file, atomically: true, encoding: .utf8)
            return try self.check("\(file),python=\(python)", ["--only", check]).findings[0]
        }
        #expect(try check("return images[:, 0, 0, 0]", only: "memory").status == "pass")
        let leak = try check("kept.append(bytearray(100000)); return images[:, 0, 0, 0]", only: "memory")
        #expect(leak.status == "fail" && leak.detail.contains("bytes are lost with each batch of 4"), "\(leak)")
        // Large scores do not hide noise.
        let noise = try check("return [1000 + os.urandom(1)[0] / 256 for _ in images]", only: "repeatable")
        #expect(noise.status == "fail" && noise.detail.contains("a second time"), "\(noise)")
    }

    @Test func scoresFiles() throws {
        let root = repository.path
        let images = ["\(root)/Tests/Goldens/rewards/words.png", "\(root)/models/tiny-sd/samples.png"]
        let outcome = try reward(["score", "jpeg_compressibility"] + images)
        #expect(
            outcome.status == 0 && outcome.out.contains("incompressibility") && outcome.out.split(separator: "\n").count == 3, "\(outcome)")
        let json = try reward(["score", "jpeg_compressibility", "--json"] + images)
        let object = try #require(JSONSerialization.jsonObject(with: Data(json.out.utf8)) as? [String: Any])
        let entries = try #require(object["images"] as? [[String: Any]])
        let scores = try entries.map { try #require($0["scores"] as? [String: Double]) }
        #expect(
            scores.count == 2 && scores[0]["incompressibility"]! > 1 && scores[1]["incompressibility"]! > scores[0]["incompressibility"]!)
    }

    /// A JPEG file is read, and prompts go to their images when sizes differ.
    @Test func promptsFollowTheirImages() throws {
        let root = repository.path
        let jpeg = folder.appendingPathComponent("small.jpg")
        // 1 x 1, white.
        try #require(Data(base64Encoded: Self.whitePixel)).write(to: jpeg)
        let prompts = folder.appendingPathComponent("prompts.txt").path
        try "one\nfo\u{2028}r\nnineteen characters\n".write(toFile: prompts, atomically: true, encoding: .utf8)
        let images = ["\(root)/Tests/Goldens/rewards/words.png", jpeg.path, "\(root)/Tests/Goldens/rewards/lines.png"]
        let outcome = try reward(["score", plugin("probe"), "--prompts", prompts] + images)
        let cells = outcome.out.split(separator: "\n").dropFirst().map { $0.split(separator: " ").map(String.init) }
        #expect(cells.map { $0[3] } == ["3", "6", "19"], "\(outcome)")
        #expect(cells[1][1] == "255")
        #expect(try reward(["score", plugin("probe"), "--prompts", prompts, jpeg.path]).error.contains("has 3 prompts for 1 images"))
    }

    /// Each image's reward gets its prompt's metadata, or else those of the flag.
    @Test func metadataFollowsItsPrompt() throws {
        let prompts = folder.appendingPathComponent("prompts.jsonl").path
        try "{\"prompt\": \"a\", \"n\": [1, 2]}\n\"b\"\n".write(toFile: prompts, atomically: true, encoding: .utf8)
        let images = ["words", "lines"].map { repository.path + "/Tests/Goldens/rewards/\($0).png" }
        for (flags, expected) in [([], ["11", "2"]), (["--metadata", "{\"n\":1}"], ["11", "7"])] {
            let length = "c:libc.so.6,score=size_t strlen(const char *metadata)"
            let outcome = try reward(["score", length, "--prompts", prompts] + flags + images)
            let cells = outcome.out.split(separator: "\n").dropFirst().map { $0.split(separator: " ").last.map(String.init) }
            #expect(cells == expected, "\(outcome)")
        }
    }

    private static let whitePixel =
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgICAgMCAgIDAwMDBAYEBAQEBAgGBgUGCQgKCgkICQkKDA8MCgsOCwkJDRENDg8QEBEQCgwSExIQEw8QEBD/wAALCAABAAEBAREA/8QAFAABAAAAAAAAAAAAAAAAAAAACf/EABQQAQAAAAAAAAAAAAAAAAAAAAD/2gAIAQEAAD8AVN//2Q=="

    @Test func filesThatAreNotImages() throws {
        let text = folder.appendingPathComponent("text.png").path
        try "not a image".write(toFile: text, atomically: true, encoding: .utf8)
        let empty = folder.appendingPathComponent("empty.png").path
        try Data().write(to: URL(fileURLWithPath: empty))
        for (file, part) in [
            (text, "neither a PNG nor a JPEG"), ("/no/file.png", "no such file"), (empty, "it is empty"), (folder.path, "it is a folder"),
        ] {
            let outcome = try reward(["score", "warmth", file])
            #expect(outcome.status == 1 && outcome.error.contains(file) && outcome.error.contains(part), "\(outcome)")
        }
        #expect(try reward(["score", "warmth"]).status == 2)
        #expect(try reward(["check", "warmth", "--only", "nothing"]).status == 2)
        let metadata = try reward(["score", "warmth", text, "--metadata", "[1]"])
        #expect(metadata.status == 2 && metadata.error.contains("--metadata [1] is not a JSON object"), "\(metadata)")
    }

    /// Settings choose the score that is shown and the treatment of images without one.
    @Test func scoreKeepsToTheSettings() throws {
        let root = repository.path
        let images = ["\(root)/Tests/Goldens/rewards/words.png", "\(root)/Tests/Goldens/rewards/lines.png"]
        let one = try reward(["score", "jpeg_compressibility,objective=incompressibility"] + images)
        #expect(one.status == 0 && one.out.contains("incompressibility") && !one.out.contains("  compressibility"), "\(one)")
        let none = try reward(["score", "jpeg_compressibility,objective=size"] + images)
        #expect(none.status == 1 && none.error.contains("has no objective size"), "\(none)")
        // A crash over one image leaves the others their scores.
        let faulty = try plugin("faulty")
        let failed = try reward(["score", "\(faulty),fault=segv,at=1"] + images)
        #expect(failed.status == 1 && failed.out.contains("words.png  255") && failed.out.contains("SIGSEGV"), "\(failed)")
        #expect(try reward(["score", "\(faulty),fault=segv,at=1,on_failure=drop"] + images).status == 0)
        let assumed = try reward(["score", "\(faulty),fault=segv,at=1,on_failure=impute:-3"] + images)
        #expect(assumed.status == 0 && assumed.out.contains("lines.png  -3 (assumed)"), "\(assumed)")
    }

    /// Columns are aligned, with combining characters too.
    @Test func columnsAreAligned() throws {
        let names = ["aa.png", "e\u{301}e\u{301}.png", "\u{1F469}\u{200D}\u{1F467}x.png"]
        for name in names { try FileManager.default.copyItem(atPath: image, toPath: folder.appendingPathComponent(name).path) }
        let outcome = try reward(["score", "warmth,objective=warmth"] + names)
        let widths = outcome.out.split(separator: "\n").dropFirst().map(\.count)
        #expect(widths.count == 3 && Set(widths).count == 1, "\(outcome)")
    }

    /// An image that cannot be scored has a row with the reason.
    @Test func failuresAreRows() throws {
        let root = repository.path
        let images = ["\(root)/Tests/Goldens/rewards/words.png", "\(root)/Tests/Goldens/rewards/lines.png"]
        let outcome = try reward(["score", "\(plugin("faulty")),fault=nan,at=1"] + images)
        #expect(
            outcome.status == 1 && outcome.out.contains("faulty cannot score sample 1: nan as byte") && outcome.out.contains("255"),
            "\(outcome)")
    }

    @Test func infoAndList() throws {
        let info = try reward(["info", "jpeg_compressibility"])
        #expect(info.status == 0 && info.out.contains("quality=95") && info.out.contains("incompressibility"))
        let json = try reward(["info", "jpeg_compressibility", "--json"])
        let object = try #require(JSONSerialization.jsonObject(with: Data(json.out.utf8)) as? [String: Any])
        #expect(object["name"] as? String == "jpeg_compressibility" && object["thread_mode"] as? String == "concurrent")

        _ = try plugin("probe", ["-DFAULT_VERSION"])
        _ = try plugin("minimal")
        let shadow = folder.appendingPathComponent("second, (a copy")
        try FileManager.default.createDirectory(at: shadow, withIntermediateDirectories: true)
        try FileManager.default.copyItem(
            at: folder.appendingPathComponent("libminimal.so"), to: shadow.appendingPathComponent("libminimal.so"))
        // Every file that looks like a plugin is listed.
        func place(_ name: String) -> String { folder.appendingPathComponent(name).path }
        try FileManager.default.copyItem(atPath: place("libminimal.so"), toPath: place("mine.so"))
        try FileManager.default.createDirectory(atPath: place("libfolder.so"), withIntermediateDirectories: true)
        for name in ["libtext.so", "file"] { try "text".write(toFile: place(name), atomically: true, encoding: .utf8) }
        try compile(["-shared", "-x", "c", "-o", place("libother.so"), "/dev/null"])
        let file = place("file")
        // What they are is read from files beside them: none is loaded.
        try reward(["info", place("libminimal.so"), "--json"]).out.write(
            toFile: place("libminimal.so.json"), atomically: true, encoding: .utf8)
        for (name, text) in [
            ("libprobe.so.json", "{}"), ("mine.so.json", json.out.replacing("\"jpeg_compressibility\"", with: "\"My Own\"")),
        ] {
            try text.write(toFile: place(name), atomically: true, encoding: .utf8)
        }
        let list = try reward(["list"], environment: ["DAG_REWARD_PATH": "\(folder.path):\(shadow.path):\(file):/no/folder"])
        #expect(list.status == 0, "\(list)")
        let listed = list.out.replacing(/\ +/, with: " ")
        for part in [
            "libminimal.so brightness 1",
            "libprobe.so its manifest cannot be read: \(place("libprobe.so.json")): not what dag-reward info --json prints",
            "not used by name: \(folder.path)/libminimal.so", "libwarmth.so", "\(file): not a folder", "/no/folder: no such folder",
            "mine.so its manifest cannot be read: \(place("mine.so.json")) calls its reward `My Own`",
            "libother.so cannot be used: does not export dag_reward_entry",
            "libtext.so cannot be used: not a shared library", "libfolder.so cannot be used: not a readable file",
        ] {
            #expect(listed.contains(part), "\(part) in \(list.out)")
        }
        #expect(!list.out.contains("libdagcore.so"))
        try FileManager.default.removeItem(atPath: place("mine.so.json"))
        let again = try reward(["list"], environment: ["DAG_REWARD_PATH": folder.path])
        #expect(again.out.contains(/mine.so +no manifest beside it; dag-reward info says what it is/), "\(again)")
        let none = try reward(["list", "--python", "/no/python"])
        #expect(none.status == 1 && none.error.contains("/no/python: no such program"), "\(none)")
    }

    /// A description beside the reward that is not its own.
    @Test func manifestsAreCompared() throws {
        let library = try plugin("minimal")
        #expect(try check(library, ["--only", "manifest"]).findings[0].status == "info")
        let manifest = folder.appendingPathComponent("libminimal.so.json")
        let own = try reward(["info", library, "--json"]).out
        try own.write(to: manifest, atomically: true, encoding: .utf8)
        #expect(try check(library, ["--only", "manifest"]).findings[0].status == "pass")
        try own.replacing("\"version\" : \"", with: "\"version\" : \"0.").write(to: manifest, atomically: true, encoding: .utf8)
        let finding = try check(library, ["--only", "manifest"]).findings[0]
        #expect(
            finding.status == "fail"
                && finding.detail.contains(
                    "libminimal.so.json has other values of version; write it again: dag-reward info \(library) --json > "),
            "\(finding)")
    }
}
