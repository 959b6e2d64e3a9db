import Support

/// A reason for which training cannot go on.
package struct TrainingError: MessageError {
    /// One line: the culprit and the remedy.
    package let message: Message

    init(_ message: Message) { self.message = message }
}

/// A call for a stage of an epoch at the wrong time.
package struct OrderError: OneLineError {
    /// One line: the stage, and the call to make first.
    package let description: String

    init(_ description: String) { self.description = description }
}

/// Numbers that are not finite, of a network, a loss or a gradient: found before they become an image, a score
/// or a weight.
package struct NotFiniteError: MessageError {
    /// One line: what is not finite, where, and the remedy.
    package let message: Message

    init(_ message: Message) { self.message = message }
}
