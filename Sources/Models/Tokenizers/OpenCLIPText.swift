import Foundation

/// open_clip's steps before text is split into words: repair by ftfy, HTML's references, lower case.
///
/// These repairs are made: curled quotes, ligatures, full-width forms, control characters, NFC. These are
/// not, so the ids of such texts differ from open_clip's: text that was decoded with the wrong encoding ("Ã©"
/// for "é"), terminal escapes, and the rare names that `HTMLReferences` lacks. Source: `SimpleTokenizer` of
/// open_clip with `clean="lower"`.
enum OpenCLIPText {
    /// Prepares text for `CLIPText.forEachWord`. White space
    /// is left as it is, because it does not get into words.
    static func normalize(_ scalars: [Unicode.Scalar]) -> [Unicode.Scalar] {
        var unescapes = true
        let repaired = scalars.split(separator: "\n", omittingEmptySubsequences: false).map { line in
            // From the first line with a "<" on, ftfy takes text
            // for HTML source and leaves its references alone.
            if line.contains("<") { unescapes = false }
            return repair(Array(line), unescapes: unescapes)
        }
        return PythonText.lowercase(HTMLReferences.replace(HTMLReferences.replace(Array(repaired.joined(separator: ["\n"])))))
    }

    /// Repairs a line again and again until nothing changes, as ftfy's fix_text does.
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

    /// Returns the character of Windows-1252 in place of a control character from U+0080 to U+009F.
    static func windows1252(_ scalar: Unicode.Scalar) -> Unicode.Scalar {
        String(data: Data([UInt8(scalar.value)]), encoding: .windowsCP1252)?.unicodeScalars.first ?? scalar
    }
}
