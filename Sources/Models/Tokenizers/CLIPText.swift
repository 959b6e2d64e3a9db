/// CLIP's steps before byte-pair encoding: normalisation and splitting into words.
///
/// They work on Unicode scalars, because Swift's characters join scalars that CLIP keeps apart (a carriage
/// return and a line feed, an emoji and its skin tone). Source: the normalizer and pre-tokenizer of
/// transformers' `CLIPTokenizer`.
enum CLIPText {
    /// Composes characters (NFC), replaces every run of white space by one space, and makes lower case.
    ///
    /// transformers' NFC is that of Unicode 9 and may order
    /// stacked combining marks of later versions differently.
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
                // By scalar and not by word: like transformers, this makes an ordinary sigma of a final one.
                result.append(contentsOf: scalar.properties.lowercaseMapping.unicodeScalars)
            }
            afterSpace = isSpace
        }
        return result
    }

    /// Calls `body` with the UTF-8 bytes of each word, that is, each match of
    /// `'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+`.
    ///
    /// - Parameter spelled: sequences that take precedence over
    ///   the pattern, with the words that each is cut into.
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

    /// A sequence that is matched as a whole, and the words that it is cut into.
    struct SpelledToken: Sendable {
        let words: [String]
        let whole: [Unicode.Scalar]

        init(_ words: String...) {
            self.words = words
            whole = Array(words.joined().unicodeScalars)
        }

        /// transformers' special tokens where they were not matched before, for
        /// example in capitals. CLIP's pattern keeps them whole, and GPT-2's
        /// pattern, which is applied to each word after it, cuts them in three.
        static let transformers = [SpelledToken("<|", "startoftext", "|>"), SpelledToken("<|", "endoftext", "|>")]
        /// open_clip's special tokens.
        static let openCLIP = OpenCLIPVocabulary.special.map { SpelledToken($0) }
    }

    private static let contractions = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"]

    private enum Kind {
        case letter, number, space, symbol

        init(_ scalar: Unicode.Scalar) {
            // transformers' regular expressions are those of Unicode
            // 16: letters of later versions are symbols to them.
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
