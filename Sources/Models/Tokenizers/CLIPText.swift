import Foundation

/// What CLIP does to text before byte-pair encoding: normalisation and splitting into words.
///
/// Source: the normalizer and pre-tokenizer that transformers' `CLIPTokenizer` builds. Works on Unicode scalars, because Swift's
/// characters join what CLIP keeps apart (a carriage return and a line feed, an emoji and its skin tone).
enum CLIPText {
    /// NFC, every run of white space one space, then lower case.
    ///
    /// transformers' NFC knows Unicode 9: stacked combining marks younger than that may come out in another order there.
    static func normalize(_ scalars: [Unicode.Scalar]) -> [Unicode.Scalar] {
        let composed = UnicodeNormalization.composed(scalars)
        var result: [Unicode.Scalar] = []
        result.reserveCapacity(composed.count)
        var afterSpace = false
        for scalar in composed {
            let isSpace = scalar.properties.isWhitespace
            if isSpace {
                if !afterSpace { result.append(" ") }
            } else {
                // Scalar by scalar, not word by word: a final sigma becomes the ordinary one, as in transformers.
                result.append(contentsOf: scalar.properties.lowercaseMapping.unicodeScalars)
            }
            afterSpace = isSpace
        }
        return result
    }

    /// Calls `body` with each word's UTF-8 bytes: `'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+`, white space dropped.
    ///
    /// - Parameter spelled: sequences that the pattern has before all others, and the words that each gives.
    static func forEachWord(in text: [Unicode.Scalar], spelled: [SpelledToken], _ body: ([UInt8]) -> Void) {
        var position = 0
        while position < text.count {
            if let token = spelled.first(where: { text[position...].starts(with: $0.whole) }) {
                for word in token.words { body(Array(word.utf8)) }
                position += token.whole.count
                continue
            }
            if let ending = contractions.first(where: { text[position...].starts(with: $0.unicodeScalars) }) {
                body(Array(ending.utf8))
                position += ending.utf8.count
                continue
            }
            let kind = Kind(text[position])
            var end = position + 1
            if kind == .letter || kind == .symbol {
                while end < text.count, Kind(text[end]) == kind { end += 1 }
            }
            if kind != .space {
                var word: [UInt8] = []
                for scalar in text[position..<end] { word.append(contentsOf: UTF8.encode(scalar)!) }
                body(word)
            }
            position = end
        }
    }

    /// A sequence that is found whole, and the words that it is cut into.
    struct SpelledToken: Sendable {
        let words: [String]
        let whole: [Unicode.Scalar]

        init(_ words: String...) {
            self.words = words
            whole = Array(words.joined().unicodeScalars)
        }

        /// transformers' special tokens that reach this point (spelt in capitals, say): the pattern keeps them whole, and GPT-2's
        /// pattern, applied to each word after it, cuts them in three.
        static let transformers = [SpelledToken("<|", "startoftext", "|>"), SpelledToken("<|", "endoftext", "|>")]
        /// open_clip's special tokens.
        static let openCLIP = OpenCLIPVocabulary.special.map { SpelledToken($0) }
    }

    private static let contractions = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"]

    private enum Kind {
        case letter, number, space, symbol

        init(_ scalar: Unicode.Scalar) {
            // transformers' regular expressions know Unicode 16; younger letters are symbols to it, whatever Swift's tables say.
            if let age = scalar.properties.age, age.major > 16 {
                self = .symbol
                return
            }
            switch scalar.properties.generalCategory {
            case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: self = .letter
            case .decimalNumber, .letterNumber, .otherNumber: self = .number
            default: self = scalar.properties.isWhitespace ? .space : .symbol
            }
        }
    }
}
