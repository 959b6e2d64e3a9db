/// Why a tokenizer could not be read: one line that names the file and what to do.
public struct TokenizerError: Error, CustomStringConvertible, Sendable {
    /// The line to show.
    public let description: String

    init(_ description: String) {
        self.description = description
    }
}
