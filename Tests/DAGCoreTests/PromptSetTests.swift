import Foundation
import Support
import TestSupport
import Testing

@testable import DAGCore

/// Writes a throw-away file, loads it, and removes it.
private func load(_ content: String, as name: String) throws -> PromptSet {
    try load(Data(content.utf8), as: name)
}

private func load(_ content: Data, as name: String) throws -> PromptSet {
    try withFolder { folder in
        let file = folder.appendingPathComponent(name)
        try content.write(to: file)
        return try PromptSet.load(file.path)
    }
}

private func message(_ body: () throws -> PromptSet) throws -> String {
    let description = try #require(throws: PromptError.self) { try body() }.description
    #expect(!description.contains("\n"))
    return description
}

@Suite struct PromptSetTests {
    @Test(arguments: [
        ("simple-animals", 45, "cat", "kangaroo"),
        ("imagenet", 1000, "tench, Tinca tinca", "toilet tissue, toilet paper, bathroom tissue"),
        ("tiny-sd", 80, "a tee on a red background", "a boot on a black background"),
        ("tiny-sd-open", 80, "a tee on a red background", "a boot on a black background"),
    ])
    func builtIn(name: String, count: Int, first: String, last: String) throws {
        let set = try PromptSet.load(name)
        #expect(set.name == name)
        #expect(set.prompts.count == count)
        #expect(set.prompts.first == Prompt(first))
        #expect(set.prompts.last == Prompt(last))
    }

    @Test func everyBuiltInNameLoads() throws {
        for name in PromptSet.builtInNames {
            #expect(try PromptSet.load(name).prompts.allSatisfy { !$0.text.isEmpty })
        }
        // ImageNet has two classes of one name: the bird and the machine.
        #expect(try Set(PromptSet.load("imagenet").prompts).count == 999)
        #expect(try Set(PromptSet.load("simple-animals").prompts).count == 45)
    }

    /// Made in the form of the published files; without the categories and the prompts that are held out.
    @Test func benchmarksAreDivided() throws {
        let folder = try TemporaryFolder()
        let csv = folder.url.appendingPathComponent("DrawBench Prompts.csv").path
        let rows = ["Colors", "Misspellings", "Text", "Rare Words"].flatMap { category in
            (1...4).map { "\"\(category), \($0)\",\(category)" }
        }
        try Data((["Prompts,Category"] + rows).joined(separator: "\n").utf8).write(to: URL(fileURLWithPath: csv))
        func prompts(_ numbers: ClosedRange<Int>) -> [Prompt] {
            ["Colors", "Text"].flatMap { category in
                numbers.map { Prompt("\(category), \($0)", metadata: "{\"Category\":\"\(category)\"}") }
            }
        }
        #expect(try PromptSet.load("drawbench:" + csv).prompts == prompts(3...4))
        #expect(try PromptSet.load("drawbench-heldout:" + csv).prompts == prompts(1...2))
        for style in ["photo", "paintings"] {
            let prompts = (1...12).map { "\(style) \($0)" }
            try JSONEncoder().encode(prompts).write(to: folder.url.appendingPathComponent("benchmark_\(style).json"))
        }
        #expect(try PromptSet.load("hpdv2:" + folder.url.path).prompts == ["photo 11", "photo 12", "paintings 11", "paintings 12"])
        #expect(try PromptSet.load("hpdv2-heldout:" + folder.url.path).prompts.count == 20)
        #expect(try message { try PromptSet.load("hpdv2:/nowhere") }.hasPrefix("hpdv2:/nowhere: there is no folder /nowhere"))
        #expect(try message { try PromptSet.load("drawbench:/nowhere") }.hasPrefix("drawbench:/nowhere: there is no file /nowhere"))
        try FileManager.default.removeItem(at: folder.url.appendingPathComponent("benchmark_paintings.json"))
        let missing = try message { try PromptSet.load("hpdv2:" + folder.url.path) }
        #expect(missing.hasPrefix("\(folder.url.path)/benchmark_paintings.json is missing"), "\(missing)")
        let plain = folder.url.appendingPathComponent("plain.csv")
        try Data("prompt\na\n".utf8).write(to: plain)
        #expect(try message { try PromptSet.load("drawbench:" + plain.path) }.contains("no column named \"Category\""))
    }

    /// White space and blank prompts do not count among the first prompts, which are held out.
    @Test func benchmarksAreDividedAfterCleaning() throws {
        let folder = try TemporaryFolder()
        let csv = folder.url.appendingPathComponent("DrawBench Prompts.csv").path
        try Data("Prompts,Category\n a ,Text\n  ,Text\nb,Text\n c,Text\n".utf8).write(to: URL(fileURLWithPath: csv))
        #expect(try PromptSet.load("drawbench-heldout:" + csv).prompts.map(\.text) == ["a", "b"])
        #expect(try PromptSet.load("drawbench:" + csv).prompts.map(\.text) == ["c"])
        for style in ["photo", "paintings"] {
            let prompts = [" ", ""] + (1...11).map { " \(style) \($0)\n" }
            try JSONEncoder().encode(prompts).write(to: folder.url.appendingPathComponent("benchmark_\(style).json"))
        }
        #expect(try PromptSet.load("hpdv2:" + folder.url.path).prompts == ["photo 11", "paintings 11"])
    }

    /// The published files, if present: BENCHMARK_PROMPTS names the folder with `DrawBench Prompts.csv` and
    /// `HPDv2`.
    @Test(.variable("BENCHMARK_PROMPTS"))
    func benchmarksHaveThePapersSizes() throws {
        let folder = try #require(ProcessInfo.processInfo.environment["BENCHMARK_PROMPTS"])
        func count(_ set: String) throws -> Int { try PromptSet.load(set).prompts.count }
        let csv = "\(folder)/DrawBench Prompts.csv"
        #expect(try (count("drawbench:\(csv)"), count("drawbench-heldout:\(csv)")) == (165, 18))
        #expect(try (count("hpdv2:\(folder)/HPDv2"), count("hpdv2-heldout:\(folder)/HPDv2")) == (1580, 20))
    }

    @Test func tinySDIsTheModelsFile() throws {
        let file = repository.appendingPathComponent("models/tiny-sd/open-prompts.txt")
        let set = try PromptSet.load(file.path)
        #expect(set.name == "open-prompts")
        #expect(try set.prompts == PromptSet.load("tiny-sd").prompts)
    }

    @Test(arguments: ["a\nb\n", "a\r\nb\r\n", "\u{FEFF}a\nb", "\n\n  a  \n\t\n b", "a\rb"])
    func textFile(content: String) throws {
        #expect(try load(content, as: "words.txt").prompts == ["a", "b"])
        #expect(try load(content, as: "words").name == "words")
    }

    @Test func textKeepsQuotationMarksAndCommas() throws {
        #expect(try load("a \"b\", c\nit's,d", as: "a.txt").prompts == ["a \"b\", c", "it's,d"])
    }

    @Test(arguments: ["\n", "\r\n"], ["", "\u{FEFF}"])
    func drawBenchCSV(newline: String, mark: String) throws {
        let rows = [
            mark + "Prompts,Category", "A red colored car.,Colors", "\"A stack of 3 plates, blue, then green.\",DALL-E",
            "\"A sign that says \"\"Hello, World\"\".\",Text", "\"Two lines:\(newline)second.\",Reddit",
            "Hovering cow abducting aliens.,Reddit", "",
        ]
        let set = try load(rows.joined(separator: newline), as: "DrawBench Prompts.csv")
        #expect(set.name == "DrawBench Prompts")
        #expect(
            set.prompts.map(\.text) == [
                "A red colored car.", "A stack of 3 plates, blue, then green.", "A sign that says \"Hello, World\".", "Two lines:\nsecond.",
                "Hovering cow abducting aliens.",
            ])
    }

    @Test(arguments: [
        ("prompt\na\nb\n", "x.csv"), ("id,prompt\n1,a\n2,b", "x.CSV"), ("id,PROMPT,n\n1,\"a\",2\n\n2,b,\n3,,3\n", "x.csv"),
        ("prompt,x\ra,\rb,", "x.csv"),
        ("\"id\",\"Prompts\"\n\"1\",\"a\"\n\"2\",\"b\"\n", "x.csv"), ("id\tprompt\n1\ta\n2\tb\n", "x.tsv"),
    ])
    func otherTables(content: String, name: String) throws {
        #expect(try load(content, as: name).prompts.map(\.text) == ["a", "b"])
    }

    /// Fields of TSV hold quotation marks as they are.
    @Test func tabsAloneDivideTSV() throws {
        let rows = ["Prompt\tc", "a sign that says \"STOP\"\tx", "a 12\" ruler\ty", "\"hello\" on a wall\tz", "\"a\tz", "b\"\tz"]
        let prompts = try load(rows.joined(separator: "\n"), as: "x.tsv").prompts.map(\.text)
        #expect(prompts == ["a sign that says \"STOP\"", "a 12\" ruler", "\"hello\" on a wall", "\"a", "b\""])
    }

    /// Scalars that join the character before them hide no comma, and line breaks of Unicode divide no rows.
    @Test func tablesAreReadByScalars() throws {
        let table = "id,prompt\n1,\u{301}a\u{2028}b\u{85}c\n 2 , \"d, e\" \n"
        #expect(try load(table, as: "x.csv").prompts.map(\.text) == ["\u{301}a\u{2028}b\u{85}c", "d, e"])
        #expect(try load("a\u{2028}b\nc\u{85}d\u{B}e", as: "x.txt").prompts == ["a\u{2028}b", "c\u{85}d\u{B}e"])
    }

    @Test(arguments: [
        ("x.jsonl", "{\"prompt\": \"a\", \"tag\": [1]}\n\n\"b\"\r\n"), ("x.txt", "{\"prompt\": \"a\"}\n{\"prompt\": \"b\"}\n"),
        ("x.json", "{\"prompt\": \"a\"}\n{\"prompt\": \"b\"}"), ("x.txt", " [\n\"a\", \"b\"]"), ("x", "[ {\"prompt\": \"a\"}, \"b\"]"),
    ])
    func jsonByItsContent(name: String, content: String) throws {
        #expect(try load(content, as: name).prompts.map(\.text) == ["a", "b"])
    }

    @Test func textMayBeginWithBrackets() throws {
        #expect(try load("[a|b] cat\n{x}", as: "x.txt").prompts == ["[a|b] cat", "{x}"])
    }

    @Test(arguments: [
        #"["a", "b"]"#, #"[{"prompt": "a"}, {"prompt": "b", "seed": 1}]"#, #"["a", {"prompt": "b"}]"#, "\u{FEFF}[\"a\", \"\", \" b \"]",
    ])
    func json(content: String) throws {
        #expect(try load(content, as: "x.json").prompts.map(\.text) == ["a", "b"])
    }

    /// Other keys and columns are for the reward, as they are; the order of keys makes no other prompt.
    @Test(arguments: [
        (
            "x.jsonl", #"{"text": "a", "n": {"b": [1, 2.5, null, true], "a": "ü/\u0000"}, "prompt": " p ", "id": 18446744073709551615}"#,
            #"{"id":18446744073709551615,"n":{"a":"ü/\u0000","b":[1,2.5,null,true]},"text":"a"}"#
        ),
        ("x.json", #"["q", {"id": 1, "prompt": "p", "id": 2, "Prompts": "q"}]"#, #"{"id":2,"Prompts":"q"}"#),
        ("x.json", #"[{"prompt": "p"}]"#, "{}"), ("x.jsonl", "\"p\"", "{}"), ("x.txt", "p", "{}"), ("x.csv", "prompt\np", "{}"),
        ("x.csv", ",Text ,prompt,n\n0, \"say \"\"hi\"\"\" ,p,1\n", #"{"n":"1","Text":"say \"hi\""}"#),
        ("x.tsv", "Prompts\tprompt\n p\tq", #"{"prompt":"q"}"#),
    ])
    func metadata(name: String, content: String, expected: String) throws {
        let prompt = try #require(load(content, as: name).prompts.last)
        #expect(prompt == Prompt("p", metadata: expected) && Prompt(rawValue: prompt.rawValue) == prompt)
    }

    @Test func metadataMakesADifferentPrompt() throws {
        let prompts = try load(#"["a", {"prompt": "a", "x": 1, "y": 2}, {"y": 2, "x": 1, "prompt": "a"}]"#, as: "x.json").prompts
        #expect(prompts[0] != prompts[1] && prompts[1] == prompts[2] && Set(prompts).count == 2)
        let sets = try ["1", "2"].map { try load("prompt,n\na,\($0)", as: "x.csv") }
        #expect(sets[0].fingerprint != sets[1].fingerprint)
    }

    @Test(arguments: ["", "a NUL \0", "{}"]) func textsWithoutMetadataAreReadBack(text: String) {
        let prompt = Prompt(text)
        #expect(Prompt(rawValue: prompt.rawValue) == prompt && (text.contains("\0") || prompt.rawValue == text))
    }

    private static let large = "{\"prompt\": \"a\", \"x\": \"\(String(repeating: "x", count: 65536))\"}"

    @Test(arguments: [
        ("x.jsonl", "\"a\"\n\(large)", "line 2: its metadata have 65544 bytes, of 65536"),
        ("x.json", "[\(large)]", "entry 1: its metadata"),
        ("x.csv", "n,prompt,n \n1,a,2", "has 2 columns named \"n\"; rename all but one"),
        ("x.txt", "", "holds no prompt"), ("x.txt", " \n\n", "holds no prompt"), ("x.csv", "Prompts,Category\n", "holds no prompt"),
        ("x.json", "[]", "holds no prompt"), ("x.csv", "", "columns are"),
        ("x.csv", "Text,Category\na,b\n", "no column named \"Prompts\" or \"prompt\"; its columns are \"Text\", \"Category\""),
        ("x.csv", "Prompts\n\"a\nb\n", "never closes"), ("x.csv", "Prompts\n\"a\"b\"c\"\n", "check its quotation marks"),
        ("x.json", "[\"a\"", "not valid JSON"), ("x.json", "", "not valid JSON"), ("x.json", "{\"prompt\": \"a\"}", "not a list"),
        ("x.json", "[\"a\", 3]", "entry 2 is neither"), ("x.json", "[{\"text\": \"a\"}]", "entry 1 is neither"),
        ("x.json", "[{\"prompt\": null}]", "entry 1 is neither"),
        ("x.csv", "prompt\na cat, sitting\n\"a dog, running\"", "x.csv, line 2: it has 2 fields, the header has 1; put a field"),
        ("x.csv", "id,prompt\n1,\"a\n\ncat\"\n2\n3,a dog", "x.csv, line 5: it has 1 field, the header has 2; write empty fields too"),
        ("x.tsv", "id\tprompt\n1\ta\tcat", "x.tsv, line 2: it has 3 fields, the header has 2; a tab divides fields"),
        ("x.csv", "prompt\na \"cat\"", "line 2: check its quotation marks"),
        ("x.txt", "[\"a\", \"b", "not valid JSON"), ("x.jsonl", "{\"prompt\": \"a\"}\n{\"prompt\"", "x.jsonl, line 2: it is neither"),
    ])
    func unusableContent(name: String, content: String, expected: String) throws {
        let text = try message { try load(content, as: name) }
        #expect(text.contains(expected) && text.contains(name), "\(text)")
    }

    @Test(arguments: ["x.txt", "x.csv", "x.json"])
    func notUTF8(name: String) throws {
        #expect(try message { try load(Data([0x63, 0x61, 0x66, 0xE9, 0x0A]), as: name) }.contains("\(name) is not UTF-8 text"))
    }

    @Test(arguments: [
        ("simple_animals", "did you mean simple-animals?"), ("imagnet", "did you mean imagenet?"), ("Tiny-SD", "did you mean tiny-sd?"),
        ("prompts.txt", "built-in sets are simple-animals, imagenet, tiny-sd, tiny-sd-open"),
    ])
    func unknownName(name: String, expected: String) throws {
        let text = try message { try PromptSet.load(name) }
        #expect(text.contains(expected) && text.contains("\"\(name)\"") && text.contains("tiny-sd-open"))
        #expect(name != "prompts.txt" || !text.contains("did you mean"))
    }

    @Test func folder() throws {
        #expect(try message { try PromptSet.load(repository.path) }.contains("is a folder"))
    }
}
