import Foundation

/// What CLIP does to text before byte-pair encoding: normalisation and splitting into words.
///
/// Source: the normalizer and pre-tokenizer that transformers' `CLIPTokenizer` builds. Works on Unicode scalars, because Swift's
/// characters join what CLIP keeps apart (a carriage return and a line feed, an emoji and its skin tone).
enum CLIPText {
    /// NFC, every run of white space one space, then lower case.
    static func normalize(_ scalars: [Unicode.Scalar]) -> [Unicode.Scalar] {
        var composed = scalars
        if !scalars.allSatisfy(\.isASCII) {
            var text = String.UnicodeScalarView()
            text.append(contentsOf: scalars)
            composed = Array(String(text).precomposedStringWithCanonicalMapping.unicodeScalars)
        }
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

    /// Cuts text at every token of a list, the leftmost first and the longest of those that begin at one place.
    ///
    /// - Parameters:
    ///   - tokens: longest first.
    ///   - token: gets each token's id; `stretch` gets what lies between, never empty. Both in text order.
    static func split(
        _ text: [Unicode.Scalar], at tokens: [AddedToken], token: (Int) -> Void, stretch: ([Unicode.Scalar]) -> Void
    ) {
        var start = 0
        var position = 0
        while position < text.count {
            guard let match = tokens.first(where: { text[position...].starts(with: $0.scalars) }) else {
                position += 1
                continue
            }
            if start < position { stretch(Array(text[start..<position])) }
            token(match.id)
            position += match.scalars.count
            start = position
        }
        if start < position { stretch(Array(text[start...])) }
    }

    /// Calls `body` with each word's UTF-8 bytes: `'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+`, white space dropped.
    ///
    /// `<|startoftext|>` and `<|endoftext|>` that reach this point (spelt in capitals, say) are three words each: the pattern keeps
    /// them whole, and GPT-2's pattern, applied to each word after it, cuts them.
    static func forEachWord(in text: [Unicode.Scalar], _ body: ([UInt8]) -> Void) {
        var position = 0
        while position < text.count {
            if let name = spelledNames.first(where: { text[position...].starts(with: "<|\($0)|>".unicodeScalars) }) {
                for word in ["<|", name, "|>"] { body(Array(word.utf8)) }
                position += name.utf8.count + 4
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

    private static let spelledNames = ["startoftext", "endoftext"]
    private static let contractions = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"]

    private enum Kind {
        case letter, number, space, symbol

        init(_ scalar: Unicode.Scalar) {
            switch scalar.properties.generalCategory {
            case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: self = .letter
            case .decimalNumber, .letterNumber, .otherNumber: self = .number
            default: self = scalar.properties.isWhitespace ? .space : .symbol
            }
        }
    }
}
