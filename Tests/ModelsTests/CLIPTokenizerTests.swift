import Foundation
import TestSupport
import Testing

@testable import Models

private let goldenFolder = goldens.appendingPathComponent("tokenizer")

/// transformers' ids of awkward strings, from make_tokenizer_goldens.py.
private struct Goldens: Decodable {
    let texts: [String]
    let ids: [String: [[Int]?]]

    static func read(_ file: URL) throws -> Goldens {
        try JSONDecoder().decode(Goldens.self, from: Data(contentsOf: file))
    }
}

/// A temporary folder with copies of golden files, which is removed with the value.
private final class Folder {
    private let temporary: TemporaryFolder
    var url: URL { temporary.url }

    init(_ sources: String...) throws {
        temporary = try TemporaryFolder()
        for source in sources {
            let folder = goldenFolder.appendingPathComponent(source)
            for name in try FileManager.default.contentsOfDirectory(atPath: folder.path) {
                try write(name, Data(contentsOf: folder.appendingPathComponent(name)))
            }
        }
    }

    func write(_ name: String, _ data: Data) throws {
        try data.write(to: url.appendingPathComponent(name))
    }

    func read(_ name: String) throws -> Data {
        try Data(contentsOf: url.appendingPathComponent(name))
    }

    /// Returns the message of the error that loading the folder throws.
    func error() throws -> String {
        try #require(throws: TokenizerError.self) { try CLIPTokenizer(folder: url) }.description
    }
}

@Suite struct CLIPTokenizerTests {
    @Test(arguments: ["tiny-sd", "files", "whole", "sd2", "inverted"])
    func equalsTransformers(name: String) throws {
        let goldens = try Goldens.read(goldenFolder.appendingPathComponent("goldens.json"))
        let folder = ["sd2", "inverted"].contains(name) ? try Folder("files", name) : try Folder(name == "whole" ? "whole" : "files")
        let model = repository.appendingPathComponent("models/tiny-sd")
        let tokenizer = try CLIPTokenizer(folder: name == "tiny-sd" ? model : folder.url)
        let expected = try zip(#require(goldens.ids[name]), #require(goldens.ids["files"])).map { $0 ?? $1 ?? [] }
        #expect(tokenizer.maxLength == (name == "tiny-sd" ? 12 : 77))
        try #require(goldens.texts.count == expected.count && expected.count > 300)
        for (text, ids) in zip(goldens.texts, expected) {
            let padding = repeatElement(tokenizer.paddingID, count: tokenizer.maxLength - ids.count)
            #expect(tokenizer.encode(text) == ids + padding, "\(text.debugDescription)")
        }
    }

    /// OpenAI's own vocabulary, if it was made:
    /// `make_tokenizer_goldens.py --full DIR`, then CLIP_TOKENIZER=DIR.
    @Test(.variable("CLIP_TOKENIZER"))
    func equalsTransformersWithTheFullVocabulary() throws {
        let folder = URL(fileURLWithPath: try #require(ProcessInfo.processInfo.environment["CLIP_TOKENIZER"]))
        let goldens = try Goldens.read(folder.appendingPathComponent("goldens.json"))
        let tokenizer = try CLIPTokenizer(folder: folder)
        #expect(tokenizer.vocabularySize == 49408)
        for (text, ids) in zip(goldens.texts, try #require(goldens.ids["full"])) {
            let padding = repeatElement(tokenizer.paddingID, count: 77 - (ids?.count ?? 0))
            #expect(tokenizer.encode(text) == (ids ?? []) + padding, "\(text.debugDescription)")
        }
    }

    @Test func specialTokens() throws {
        let tokenizer = try CLIPTokenizer(folder: goldenFolder.appendingPathComponent("files"))
        let size = tokenizer.vocabularySize
        #expect((tokenizer.startOfTextID, tokenizer.endOfTextID) == (size - 2, size - 1))
        #expect((tokenizer.paddingID, tokenizer.unknownID) == (size - 1, size - 1))
        let (sd2, inverted) = (try Folder("files", "sd2"), try Folder("files", "inverted"))
        #expect(try CLIPTokenizer(folder: sd2.url).paddingID == 0)
        #expect(try CLIPTokenizer(folder: inverted.url).vocabularySize == size + 3)
        #expect(try CLIPTokenizer(folder: repository.appendingPathComponent("models/tiny-sd/tokenizer")).vocabularySize == 589)
    }

    @Test func tokenizeNeitherPadsNorCuts() throws {
        let tokenizer = try CLIPTokenizer(folder: goldenFolder.appendingPathComponent("files"))
        #expect(tokenizer.tokenize("").isEmpty)
        #expect(tokenizer.tokenize(String(repeating: "1 ", count: 500)).count == 500)
        let end = Array(repeating: tokenizer.endOfTextID, count: 74)
        #expect(tokenizer.encode("1 2") == [tokenizer.startOfTextID] + tokenizer.tokenize("1 2") + end)
    }

    @Test(arguments: [2, 3, 12])
    func lengthCanBeChosen(length: Int) throws {
        let tokenizer = try CLIPTokenizer(folder: goldenFolder.appendingPathComponent("files"), maxLength: length)
        let ids = tokenizer.encode(String(repeating: "boot ", count: 99))
        #expect(ids.count == length && ids.first == tokenizer.startOfTextID && ids.last == tokenizer.endOfTextID)
    }

    @Test func withoutConfigsTheLengthIsCLIPs() throws {
        let folder = try Folder("files")
        try FileManager.default.removeItem(at: folder.url.appendingPathComponent("tokenizer_config.json"))
        try FileManager.default.removeItem(at: folder.url.appendingPathComponent("special_tokens_map.json"))
        #expect(try CLIPTokenizer(folder: folder.url).maxLength == 77)
        try folder.write("tokenizer_config.json", Data(#"{"model_max_length": 1000000000000000019884624838656}"#.utf8))
        #expect(try CLIPTokenizer(folder: folder.url).maxLength == 77)
    }

    @Test func carriageReturnsInMergesAreNoPartOfThem() throws {
        let folder = try Folder("files")
        let merges = String(decoding: try folder.read("merges.txt"), as: UTF8.self)
        try folder.write("merges.txt", Data(merges.replacing("\n", with: "\r\n").utf8))
        let text = "function returns the value of an object"
        let expected = try CLIPTokenizer(folder: goldenFolder.appendingPathComponent("files")).encode(text)
        #expect(try CLIPTokenizer(folder: folder.url).encode(text) == expected)
    }

    @Test func emptyFolder() throws {
        let folder = try Folder()
        #expect(try folder.error().contains("neither vocab.json with merges.txt nor tokenizer.json"))
    }

    @Test func missingMerges() throws {
        let folder = try Folder("files")
        try FileManager.default.removeItem(at: folder.url.appendingPathComponent("merges.txt"))
        #expect(try folder.error().contains("merges.txt is missing"))
    }

    @Test(arguments: ["vocab.json", "tokenizer_config.json", "special_tokens_map.json"])
    func truncatedJSON(name: String) throws {
        let folder = try Folder("files")
        let data = try folder.read(name)
        for length in [0, 1, data.count / 2, data.count - 2] {
            try folder.write(name, data.prefix(length))
            let message = try folder.error()
            #expect(message.contains(length == 0 ? "\(name): empty" : "\(name) is not valid JSON") && !message.contains("\n"))
        }
    }

    /// JSON as Python writes it, and settings that are not implemented.
    @Test func tokenizerSettings() throws {
        let folder = try Folder("files")
        try folder.write("tokenizer_config.json", Data(#"{"model_max_length": Infinity, "padding_side": "right"}"#.utf8))
        #expect(try folder.error().contains("at model_max_length"))
        try folder.write("tokenizer_config.json", Data(#"{"dropout": NaN, "padding_side": "right"}"#.utf8))
        _ = try CLIPTokenizer(folder: folder.url)
        for key in ["padding_side", "truncation_side"] {
            try folder.write("tokenizer_config.json", Data(#"{"\#(key)": "left"}"#.utf8))
            #expect(try folder.error().contains("tokenizer_config.json: \(key) \"left\" is not supported"))
        }
    }

    @Test func truncatedTokenizerJSON() throws {
        let folder = try Folder("whole")
        let data = try folder.read("tokenizer.json")
        for length in [0, data.count / 2, data.count - 2] {
            try folder.write("tokenizer.json", data.prefix(length))
            #expect(try folder.error().contains(length == 0 ? "tokenizer.json: empty" : "tokenizer.json is not valid JSON"))
        }
    }

    @Test func truncatedMerges() throws {
        let folder = try Folder("files")
        let data = try folder.read("merges.txt")
        for length in [0, 10, 100, data.count / 2, data.count - 2, data.count - 4] {
            try folder.write("merges.txt", data.prefix(length))
            #expect(try folder.error().contains("merges.txt"))
        }
    }

    @Test(arguments: [
        ("merges.txt", "#version: 0.2\na b c\n", "merges.txt, line 2: expected two tokens, found 3"),
        ("merges.txt", "#version: 0.2\n\n", "merges.txt, line 2: expected two tokens, found 0"),
        ("merges.txt", "q zz\n", "merges.txt, line 1: \"q zz\" uses tokens that the vocabulary lacks"),
        ("vocab.json", "[1, 2]", "vocab.json is JSON, but not what a CLIP tokenizer has there"),
        ("vocab.json", #"{"a": "b"}"#, "vocab.json is JSON, but not what a CLIP tokenizer has there (at a)"),
        ("tokenizer_config.json", #"{"bos_token": "<s>"}"#, "no entry for the special token <s>"),
        ("tokenizer_config.json", #"{"model_max_length": 1}"#, "leaves no room"),
        ("tokenizer_config.json", #"{"model_max_length": -1e300}"#, "leaves no room"),
        ("added_tokens.json", #"{"<a>": 9223372036854775807}"#, "a token's id"), ("added_tokens.json", #"{"<a>": -1}"#, "a token's id"),
        ("tokenizer.json", #"{"model": {"vocab": {}}, "added_tokens": []}"#, "(at model.merges)"),
    ])
    func brokenContent(name: String, content: String, message: String) throws {
        let folder = try Folder("files")
        if name == "tokenizer_config.json" {
            try FileManager.default.removeItem(at: folder.url.appendingPathComponent("special_tokens_map.json"))
        }
        try folder.write(name, Data(content.utf8))
        #expect(try folder.error().contains(message))
    }

    @Test func invalidUTF8() throws {
        let folder = try Folder("files")
        try folder.write("merges.txt", Data([0x61, 0x20, 0xFF, 0x0A]))
        #expect(try folder.error().contains("merges.txt is not UTF-8"))
    }
}
