/// A tokenizer that cannot be read.
public struct TokenizerError: Error, CustomStringConvertible, Sendable {
    /// One line: the file, the problem and the remedy.
    public let description: String

    init(_ description: String) {
        self.description = description
    }
}
