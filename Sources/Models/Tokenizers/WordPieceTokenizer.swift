import Foundation
import Tensors

/// BERT's uncased tokenizer: cuts words and punctuation into the longest pieces of a vocabulary.
///
/// The ids equal those of transformers' `BertTokenizer` with `bert-base-uncased`.
/// Source: Devlin et al. 2018; Wu et al. 2016 (WordPiece).
package struct WordPieceTokenizer: Sendable {
    /// The number of ids.
    package let size: Int
    /// The ids of pieces, by their UTF-8 bytes: Swift holds strings for equal that are different pieces.
    private let ids: [[UInt8]: Int]
    /// The ids of `[UNK]`, `[CLS]` and `[SEP]`.
    package let unknown, start, end: Int
    /// Tokens that are matched as a whole anywhere in a text.
    private let special: [AddedToken]
    /// The largest number of characters of a word that is cut into pieces; a longer one is unknown.
    private static let longestWord = 100

    /// Reads `vocab.txt`, where the piece in each line has the line's number, from 0, as its id.
    /// - Parameter added: tokens with the ids that follow, matched as a whole like `[MASK]`.
    /// - Throws: `TokenizerError` that names the file.
    package init(vocabulary file: URL, added: [String] = []) throws {
        let data = try? Data(contentsOf: file)
        if let kind = data.flatMap({ FileKind.foreign($0, expectsText: true) }) { throw TokenizerError("\(file.path): \(kind)") }
        guard let text = data.flatMap({ String(data: $0, encoding: .utf8) }) else {
            throw TokenizerError("\(file.path): is not UTF-8 text, so it is no BERT's vocab.txt")
        }
        var lines = Array(text.utf8).split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).map {
            $0.last == UInt8(ascii: "\r") ? Array($0.dropLast()) : Array($0)
        }
        if lines.last == [] { lines.removeLast() }
        lines += added.map { Array($0.utf8) }
        size = lines.count
        let ids = Dictionary(zip(lines, lines.indices), uniquingKeysWith: { _, last in last })
        func id(_ token: String) throws -> Int {
            guard let id = ids[Array(token.utf8)] else {
                throw TokenizerError("\(file.path): is not the vocabulary of a BERT, it has no \(token)")
            }
            return id
        }
        unknown = try id("[UNK]")
        start = try id("[CLS]")
        end = try id("[SEP]")
        special = try (["[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"] + added).map {
            AddedToken(scalars: Array($0.unicodeScalars), id: try id($0), normalized: false)
        }
        self.ids = ids
    }

    /// Returns the ids of `[CLS]`, the text and `[SEP]`, without padding.
    /// The text is cut so that there are at most `maxLength` ids.
    package func encode(_ text: String, maxLength: Int) -> [Int] {
        var result = [start]
        AddedToken.split(
            Array(text.unicodeScalars), at: special, token: { result.append($0) },
            stretch: { stretch in for word in Self.words(stretch) { result += pieces(word) } })
        return result.prefix(maxLength - 1) + [end]
    }

    /// Cuts a word into pieces: the longest that it begins with, then the longest that the rest begins with,
    /// and so on. Pieces after the first are marked `##` in the vocabulary.
    private func pieces(_ word: [Unicode.Scalar]) -> [Int] {
        guard word.count <= Self.longestWord else { return [unknown] }
        var result: [Int] = []
        var begin = 0
        while begin < word.count {
            var end = word.count
            var found: Int?
            while end > begin, found == nil {
                found = ids[Array(((begin > 0 ? "##" : "") + String(String.UnicodeScalarView(word[begin..<end]))).utf8)]
                if found == nil { end -= 1 }
            }
            guard let found else { return [unknown] }
            result.append(found)
            begin = end
        }
        return result
    }

    /// BERT's basic tokenizer: removes control characters and accents, makes lower case, and cuts at white
    /// space. Every punctuation mark and every Chinese character is a word.
    private static func words(_ text: [Unicode.Scalar]) -> [[Unicode.Scalar]] {
        let cleaned = text.filter { $0 == "\t" || $0 == "\n" || $0 == "\r" || !($0.value == 0xFFFD || isOther($0)) }
        // By scalar and not by word: like transformers, this makes an ordinary sigma of a final one.
        let plain = UnicodeNormalization.decomposed(cleaned.flatMap { Array($0.properties.lowercaseMapping.unicodeScalars) }).filter {
            $0.properties.generalCategory != .nonspacingMark
        }
        var words: [[Unicode.Scalar]] = [[]]
        for scalar in plain {
            if scalar.properties.isWhitespace {
                words.append([])
            } else if isSign(scalar) || isChinese(scalar) {
                words += [[scalar], []]
            } else {
                words[words.count - 1].append(scalar)
            }
        }
        return words.filter { !$0.isEmpty }
    }

    private static func isOther(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.properties.generalCategory {
        case .control, .format, .surrogate, .privateUse, .unassigned: true
        default: false
        }
    }

    private static func isSign(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 33...47, 58...64, 91...96, 123...126: return true
        default: break
        }
        switch scalar.properties.generalCategory {
        case .connectorPunctuation, .dashPunctuation, .openPunctuation, .closePunctuation, .initialPunctuation, .finalPunctuation,
            .otherPunctuation:
            return true
        default: return false
        }
    }

    private static func isChinese(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0x4E00...0x9FFF, 0x3400...0x4DBF, 0x20000...0x2A6DF, 0x2A700...0x2B73F, 0x2B740...0x2B81F, 0x2B820...0x2CEAF, 0xF900...0xFAFF,
            0x2F800...0x2FA1F:
            true
        default: false
        }
    }
}
