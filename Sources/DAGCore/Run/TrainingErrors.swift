import Support

/// Training cannot go on.
public struct TrainingError: MessageError {
    /// One line: the culprit and the remedy.
    public let message: Message

    init(_ message: Message) { self.message = message }
}

/// A step of training was asked for before the one that it builds on.
public struct OrderError: OneLineError {
    /// One line: what is missing.
    public let description: String

    init(_ description: String) { self.description = description }
}
