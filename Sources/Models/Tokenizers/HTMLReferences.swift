/// HTML's character references, such as `&eacute;` or `&#233;`, replaced as by Python's `html.unescape`.
///
/// All numbers are covered, and all 106 names that need no semicolon: those
/// of Latin-1. Of the 2,019 other names, only 11 for common punctuation
/// are; the rest stay as they are in the text, where Python replaces them.
enum HTMLReferences {
    /// Replaces every reference once: `&amp;amp;` becomes `&amp;`.
    static func replace(_ text: [Unicode.Scalar]) -> [Unicode.Scalar] {
        var result: [Unicode.Scalar] = []
        var rest = text[...]
        while let ampersand = rest.firstIndex(of: "&") {
            result += rest[..<ampersand]
            rest = rest[(ampersand + 1)...]
            if let (replacement, length) = rest.first == "#" ? number(rest.dropFirst()) : name(rest) {
                result += replacement
                rest = rest.dropFirst(length)
            } else {
                result.append("&")
            }
        }
        return result + rest
    }

    /// Returns the replacement of the reference whose digits follow `&#`, and its length from `#` on.
    private static func number(_ text: ArraySlice<Unicode.Scalar>) -> (replacement: [Unicode.Scalar], length: Int)? {
        let isHex = text.first == "x" || text.first == "X"
        let start = isHex ? 1 : 0
        let digits = text.dropFirst(start).prefix { $0.isASCII && Character($0).isHexDigit && (isHex || $0 <= "9") }
        guard !digits.isEmpty else { return nil }
        let hasSemicolon = text.dropFirst(start + digits.count).first == ";"
        let length = 1 + start + digits.count + (hasSemicolon ? 1 : 0)
        let value = digits.reduce(0 as UInt32) { min($0 * (isHex ? 16 : 10) + UInt32(Character($1).hexDigitValue!), 0x110000) }
        guard let scalar = Unicode.Scalar(value), value > 0 else { return (["\u{FFFD}"], length) }
        switch value {
        case 0x80...0x9F: return ([OpenCLIPText.windows1252(scalar)], length)
        case 0x0D: return (["\r"], length)
        case 0x01...0x08, 0x0B, 0x0E...0x1F, 0x7F, 0xFDD0...0xFDEF: return ([], length)
        default: return (value & 0xFFFE == 0xFFFE ? [] : [scalar], length)
        }
    }

    /// Returns the replacement of the name at the start of the text, and its length.
    ///
    /// Old names need no semicolon, and other letters may follow them.
    private static func name(_ text: ArraySlice<Unicode.Scalar>) -> (replacement: [Unicode.Scalar], length: Int)? {
        let run = text.prefix(32).prefix { !"\t\n\u{0C} <&#;".unicodeScalars.contains($0) }
        var name = String(String.UnicodeScalarView(run))
        if text.dropFirst(run.count).first == ";", let scalar = old[name] ?? new[name] { return ([scalar], run.count + 1) }
        while name.unicodeScalars.count > 1 {
            if let scalar = old[name] { return ([scalar], name.unicodeScalars.count) }
            name.unicodeScalars.removeLast()
        }
        return nil
    }

    /// Names that are valid without a semicolon.
    private static let old: [String: Unicode.Scalar] = {
        let latin1 = """
            nbsp iexcl cent pound curren yen brvbar sect uml copy ordf laquo not shy reg macr deg plusmn sup2 sup3 acute micro para \
            middot cedil sup1 ordm raquo frac14 frac12 frac34 iquest Agrave Aacute Acirc Atilde Auml Aring AElig Ccedil Egrave Eacute \
            Ecirc Euml Igrave Iacute Icirc Iuml ETH Ntilde Ograve Oacute Ocirc Otilde Ouml times Oslash Ugrave Uacute Ucirc Uuml Yacute \
            THORN szlig agrave aacute acirc atilde auml aring aelig ccedil egrave eacute ecirc euml igrave iacute icirc iuml eth ntilde \
            ograve oacute ocirc otilde ouml divide oslash ugrave uacute ucirc uuml yacute thorn yuml
            """.split(separator: " ")
        var names: [String: Unicode.Scalar] = [
            "amp": "&", "lt": "<", "gt": ">", "quot": "\"", "AMP": "&", "LT": "<", "GT": ">", "QUOT": "\"", "COPY": "©", "REG": "®",
        ]
        for (name, code) in zip(latin1, 0xA0...0xFF as ClosedRange<UInt8>) { names[String(name)] = Unicode.Scalar(code) }
        return names
    }()

    /// Names that need a semicolon.
    private static let new: [String: Unicode.Scalar] = [
        "apos": "'", "hellip": "…", "ndash": "–", "mdash": "—", "lsquo": "‘", "rsquo": "’", "ldquo": "“", "rdquo": "”", "bull": "•",
        "euro": "€", "trade": "™",
    ]
}
