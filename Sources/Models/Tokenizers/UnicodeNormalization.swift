import CUTF8Proc
import Foundation

/// Unicode's normalization forms, by utf8proc. Foundation's in Swift 6.3 are wrong for Hangul.
enum UnicodeNormalization {
    /// NFC: characters composed where Unicode has a composed form.
    static func composed(_ scalars: [Unicode.Scalar]) -> [Unicode.Scalar] { map(scalars, [UTF8PROC_COMPOSE]) }

    /// NFD: characters taken apart into letters and marks.
    static func decomposed(_ scalars: [Unicode.Scalar]) -> [Unicode.Scalar] { map(scalars, [UTF8PROC_DECOMPOSE]) }

    /// NFKC: NFC, and one form for characters that differ in
    /// presentation, such as ligatures and full-width letters.
    static func compatibilityComposed(_ scalars: [Unicode.Scalar]) -> [Unicode.Scalar] {
        map(scalars, [UTF8PROC_COMPOSE, UTF8PROC_COMPAT])
    }

    private static func map(_ scalars: [Unicode.Scalar], _ form: [utf8proc_option_t]) -> [Unicode.Scalar] {
        if scalars.allSatisfy(\.isASCII) { return scalars }
        let options = utf8proc_option_t(form.reduce(UTF8PROC_STABLE.rawValue) { $0 | $1.rawValue })
        // utf8proc 2.8 drops U+11A7 after a syllable. It composes with nothing, so the text can be cut there.
        return Array(
            scalars.split(separator: "\u{11A7}", omittingEmptySubsequences: false).map { map($0, options) }.joined(separator: ["\u{11A7}"]))
    }

    private static func map(_ scalars: ArraySlice<Unicode.Scalar>, _ options: utf8proc_option_t) -> [Unicode.Scalar] {
        let text = Array(String(String.UnicodeScalarView(scalars)).utf8)
        var result: UnsafeMutablePointer<UInt8>?
        let size = utf8proc_map(text, text.count, &result, options)
        // Of valid text it fails only when memory is out; the text stays as it is then.
        guard let result, size >= 0 else { return Array(scalars) }
        defer { free(result) }
        return Array(String(decoding: UnsafeBufferPointer(start: result, count: size), as: UTF8.self).unicodeScalars)
    }
}
