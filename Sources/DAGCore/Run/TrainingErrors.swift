import Support

/// Training cannot go on.
package struct TrainingError: MessageError {
    /// One line: the culprit and the remedy.
    package let message: Message

    init(_ message: Message) { self.message = message }
}

/// A step of training was asked for before the one that it builds on.
package struct OrderError: OneLineError {
    /// One line: what is missing.
    package let description: String

    init(_ description: String) { self.description = description }
}
