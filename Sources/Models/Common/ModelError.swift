/// A model that cannot be loaded or used.
public struct ModelError: Error, CustomStringConvertible {
    /// One line: the culprit and the remedy.
    public let description: String
    /// - Parameter description: one line that names the culprit.
    public init(_ description: String) { self.description = description }
}
