import Testing

@testable import Models

@Suite struct UnicodeNormalizationTests {
    private static func scalars(_ values: [UInt32]) -> [Unicode.Scalar] { values.compactMap(Unicode.Scalar.init) }

    /// Hangul: jamo that compose, a final, and the neighbours
    /// of jamo (U+1176, U+11A7, U+11C3), which do not compose.
    @Test(
        arguments: [
            ([0x1112, 0x1161, 0x11AB], [0xD55C]), ([0xD558, 0x11AB], [0xD55C]), ([0x1100, 0x1176], [0x1100, 0x1176]),
            ([0x1100, 0x1161, 0x11A7], [0xAC00, 0x11A7]), ([0xAC00, 0x11A7, 0x11A8], [0xAC00, 0x11A7, 0x11A8]),
            ([0xAC00, 0x11C3], [0xAC00, 0x11C3]), ([0xAC00, 0x301, 0x11A8], [0xAC00, 0x301, 0x11A8]), ([0x65, 0x301], [0xE9]), ([0], [0]),
            ([], []),
        ] as [([UInt32], [UInt32])])
    func composes(text: [UInt32], expected: [UInt32]) {
        #expect(UnicodeNormalization.composed(Self.scalars(text)) == Self.scalars(expected))
    }

    @Test func otherForms() {
        #expect(UnicodeNormalization.decomposed(Self.scalars([0xD55C, 0xE9])) == Self.scalars([0x1112, 0x1161, 0x11AB, 0x65, 0x301]))
        #expect(UnicodeNormalization.compatibilityComposed(Self.scalars([0xFB01, 0xFF21])) == Self.scalars([0x66, 0x69, 0x41]))
    }
}
