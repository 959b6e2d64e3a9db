import CZlib
import Foundation
import Tensors

/// open_clip's vocabulary, which follows from its list of merges, `bpe_simple_vocab_16e6.txt.gz`.
struct OpenCLIPVocabulary {
    /// Tokens that are matched as a whole anywhere in a text: the last two of the vocabulary.
    static let special = ["<start_of_text>", "<end_of_text>"]
    /// The number of merges that open_clip uses. The file has more.
    private static let mergeCount = 49152 - 256 - 2

    let ids: [String: Int]
    let merges: [BytePairEncoder.Pair: BytePairEncoder.Merge]
    /// The number of ids.
    let size: Int

    /// Reads a heading line and one merge a line, compressed by gzip or not.
    /// - Throws: `TokenizerError` that names the file and, if it is damaged, the line.
    init(contentsOf file: URL) throws {
        let lines = try Self.text(file).split(separator: "\n", omittingEmptySubsequences: false).dropFirst()
            .prefix(Self.mergeCount)
        let pairs = (lines.last == "" ? lines.dropLast() : lines).map { $0.split(separator: " ").map(String.init) }
        // Bytes that print come first, then those that are replaced by a character from U+0100 on.
        let bytes = BytePairEncoder.alphabet.sorted().map(String.init)
        let pieces = bytes + bytes.map { $0 + "</w>" } + pairs.map { $0.joined() } + Self.special
        let ids = Dictionary(zip(pieces, 0...), uniquingKeysWith: { $1 })
        var merges: [BytePairEncoder.Pair: BytePairEncoder.Merge] = [:]
        for (rank, pair) in pairs.enumerated() {
            guard pair.count == 2, let left = ids[pair[0]], let right = ids[pair[1]], let id = ids[pair[0] + pair[1]]
            else {
                throw TokenizerError(
                    "\(file.path), line \(rank + 2): expected two tokens that earlier lines make; "
                        + "name open_clip's bpe_simple_vocab_16e6.txt.gz, undamaged")
            }
            merges[BytePairEncoder.Pair(left: left, right: right)] = BytePairEncoder.Merge(rank: rank, id: id)
        }
        guard !pairs.isEmpty else {
            throw TokenizerError("\(file.path) holds no merges; name open_clip's bpe_simple_vocab_16e6.txt.gz")
        }
        self.ids = ids
        self.merges = merges
        size = pieces.count
    }

    /// Reads a file's text. zlib passes files through that are not compressed.
    private static func text(_ file: URL) throws -> String {
        guard let stream = gzopen(file.path, "rb") else {
            throw TokenizerError("\(file.path) is missing or cannot be read")
        }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        var count = gzread(stream, &buffer, UInt32(buffer.count))
        while count > 0 {
            bytes += buffer[..<Int(count)]
            count = gzread(stream, &buffer, UInt32(buffer.count))
        }
        // A stream that ends too early is reported on closing.
        guard gzclose(stream) == Z_OK, count == 0 else {
            throw TokenizerError("\(file.path) is damaged or cut short; download it again")
        }
        if let kind = FileKind.foreign(Data(bytes), expectsText: true) { throw TokenizerError("\(file.path): \(kind)") }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw TokenizerError(
                "\(file.path) is not text, with or without gzip, so it is no bpe_simple_vocab_16e6.txt.gz")
        }
        return text
    }
}
