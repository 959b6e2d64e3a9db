/// A tokenizer that cannot be read.
package struct TokenizerError: Error, CustomStringConvertible, Sendable {
    /// One line: the file, the problem and the remedy.
    package let description: String

    init(_ description: String) {
        self.description = description
    }
}
