import Foundation

/// What open_clip does to text before it is split into words: repair, HTML's references, lower case.
///
/// Source: `SimpleTokenizer` of open_clip with `clean="lower"`. Of ftfy's repairs, what concerns single characters is done: curled
/// quotes, ligatures, full-width forms, control characters, NFC. Text decoded with the wrong encoding ("Ã©" for "é") and terminal
/// escapes stay as they are. HTML's named characters are those of Latin-1 and common punctuation, not all 2,231.
enum OpenCLIPText {
    /// Text as it goes to `CLIPText.forEachWord`. White space is left as it is, because words drop it.
    static func normalize(_ scalars: [Unicode.Scalar]) -> [Unicode.Scalar] {
        var unescapes = true
        let repaired = scalars.split(separator: "\n", omittingEmptySubsequences: false).map { line in
            // ftfy takes text for HTML source, where references are meant, from the first line with a "<" on.
            if line.contains("<") { unescapes = false }
            return repair(Array(line), unescapes: unescapes)
        }
        return PythonText.lowercase(HTMLReferences.replace(HTMLReferences.replace(Array(repaired.joined(separator: ["\n"])))))
    }

    /// ftfy's fix_text for a line, as far as this type goes: until nothing changes.
    private static func repair(_ line: [Unicode.Scalar], unescapes: Bool) -> [Unicode.Scalar] {
        var text = line
        while true {
            let fixed = UnicodeNormalization.composed((unescapes ? HTMLReferences.replace(text) : text).flatMap(repair))
            if fixed == text { return text }
            text = fixed
        }
    }

    private static func repair(_ scalar: Unicode.Scalar) -> [Unicode.Scalar] {
        switch scalar.value {
        case 0x02BC, 0x2018...0x201B: ["'"]
        case 0x201C...0x201F: ["\""]
        case 0x80...0x9F: [windows1252(scalar)]
        case 0x00...0x08, 0x0B, 0x0E...0x1F, 0x7F, 0x206A...0x206F, 0xFEFF, 0xFFF9...0xFFFC: []
        case 0xFB05: ["\u{17F}", "t"]
        case 0x0132, 0x0133, 0x0149, 0x01C4...0x01CC, 0x01F1...0x01F3, 0xFB00...0xFB06, 0x3000, 0xFF01...0xFFEF:
            UnicodeNormalization.compatibilityComposed([scalar])
        default: [scalar]
        }
    }

    /// The character that Windows-1252 has where Unicode has a control character, U+0080 to U+009F.
    static func windows1252(_ scalar: Unicode.Scalar) -> Unicode.Scalar {
        String(data: Data([UInt8(scalar.value)]), encoding: .windowsCP1252)?.unicodeScalars.first ?? scalar
    }
}
