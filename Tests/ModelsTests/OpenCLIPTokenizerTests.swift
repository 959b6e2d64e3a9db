import Foundation
import TestSupport
import Testing

@testable import Models

/// Our tokenizer from open_clip's file against open_clip's own (tokenizer/make_open_clip_goldens.py).
@Suite struct OpenCLIPTokenizerTests {
    private struct Goldens: Decodable {
        let texts: [String]
        let ids: [[Int]]
    }

    private static let folder = goldens.appendingPathComponent("tokenizer/open-clip")
    private static let vocabulary = folder.appendingPathComponent("bpe.txt.gz")

    private func compare(_ tokenizer: CLIPTokenizer, _ folder: URL) throws {
        let goldens = try JSONDecoder().decode(Goldens.self, from: Data(contentsOf: folder.appendingPathComponent("goldens.json")))
        try #require(goldens.texts.count == goldens.ids.count && goldens.ids.count > 1000)
        for (text, ids) in zip(goldens.texts, goldens.ids) {
            #expect(tokenizer.encode(text) == ids + repeatElement(0, count: 77 - ids.count), "\(text.debugDescription)")
        }
    }

    @Test func equalsOpenCLIP() throws { try compare(CLIPTokenizer(openCLIP: Self.vocabulary), Self.folder) }

    /// OpenAI's own vocabulary, if it is there: `make_open_clip_goldens.py
    /// --full DIR`, then OPEN_CLIP_VOCABULARY=DIR.
    @Test(.variable("OPEN_CLIP_VOCABULARY"))
    func equalsOpenCLIPWithTheFullVocabulary() throws {
        let folder = URL(fileURLWithPath: try #require(ProcessInfo.processInfo.environment["OPEN_CLIP_VOCABULARY"]))
        let tokenizer = try CLIPTokenizer(openCLIP: folder.appendingPathComponent("bpe_simple_vocab_16e6.txt.gz"))
        #expect((tokenizer.vocabularySize, tokenizer.startOfTextID, tokenizer.endOfTextID) == (49408, 49406, 49407))
        try compare(tokenizer, folder)
    }

    /// Uncompressed text gives the same ids as compressed text, and a damaged file an error that names it.
    @Test func files() throws {
        let folder = try TemporaryFolder()
        let file = folder.url.appendingPathComponent("bpe.txt")
        func error() throws -> String {
            try #require(throws: TokenizerError.self) { try CLIPTokenizer(openCLIP: file) }.description
        }
        #expect(try error().hasPrefix("\(file.path) is missing"))
        let merges = try Data(contentsOf: goldens.appendingPathComponent("tokenizer/files/merges.txt"))
        try merges.write(to: file)
        let (plain, zipped) = (try CLIPTokenizer(openCLIP: file), try CLIPTokenizer(openCLIP: Self.vocabulary))
        #expect(plain.vocabularySize == zipped.vocabularySize)
        #expect(plain.encode("returns the value") == zipped.encode("returns the value"))
        let gzip = try Data(contentsOf: Self.vocabulary)
        for length in [12, gzip.count / 2, gzip.count - 1] {
            try gzip.prefix(length).write(to: file)
            #expect(try error().contains("cut short"))
        }
        try Data([0xFF, 0xFE, 0x00, 0x80]).write(to: file)
        #expect(try error() == "\(file.path) is not text, with or without gzip, so it is no bpe_simple_vocab_16e6.txt.gz")
        for (text, message) in [
            ("", ": empty"), ("#\n", "holds no merges"), ("<html>", "an HTML page"), ("#\na b\nx yz\n", "line 3"), ("#\na b c\n", "line 2"),
        ] {
            try Data(text.utf8).write(to: file)
            #expect(try error().contains(message))
        }
        #expect(throws: TokenizerError.self) { try CLIPTokenizer(openCLIP: Self.vocabulary, maxLength: 1) }
    }
}
