/// A model that cannot be loaded or used.
package struct ModelError: Error, CustomStringConvertible {
    /// One line: the culprit and the remedy.
    package let description: String
    /// - Parameter description: one line that names the culprit.
    package init(_ description: String) { self.description = description }
}
