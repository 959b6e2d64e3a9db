import Foundation

/// A prompt: the text that a model draws, and what rewards are told beside it.
///
/// Prompts of the same text and other metadata are different ones: they are scored, counted and compared apart. Models see the
/// text alone.
package struct Prompt: RawRepresentable, Hashable, Codable, CodingKeyRepresentable, Sendable {
    /// The text; "" for a model without text.
    package let text: String
    /// A JSON object; "{}" if there is nothing to tell.
    package let metadata: String

    /// Makes a prompt.
    package init(_ text: String, metadata: String = "{}") {
        self.text = text
        self.metadata = metadata
    }

    /// The prompt in checkpoints: the text and, if there are any, a NUL and the metadata, in which no NUL can be.
    package var rawValue: String { metadata == "{}" && !text.contains("\0") ? text : "\(text)\0\(metadata)" }

    /// Reads a prompt of a checkpoint.
    package init(rawValue: String) {
        let end = rawValue.lastIndex(of: "\0")
        self.init(end.map { String(rawValue[..<$0]) } ?? rawValue, metadata: end.map { String(rawValue[$0...].dropFirst()) } ?? "{}")
    }

    /// The prompt without white space at either end of its text.
    package var trimmed: Prompt { Prompt(text.trimmingCharacters(in: .whitespacesAndNewlines), metadata: metadata) }
}

extension Prompt: ExpressibleByStringInterpolation {
    /// Makes a prompt without metadata.
    package init(stringLiteral text: String) { self.init(text) }
}
