import Support

/// A text in which the names of settings are marked, so that each front end spells them as its users do.
///
///     let message: Message = "\(setting: "clip_range") must be above zero"
///     message.text(.key)   // clip_range must be above zero
///     message.text(.flag)  // --clip-range must be above zero
///
/// `output`, `resume` and `config` are not settings of a configuration, but are marked in the same way.
package struct Message: Sendable, CustomStringConvertible {
    /// The ways to spell the name of a setting.
    package enum Spelling: Sendable {
        /// As in YAML, in the C API and in Python: `clip_range`.
        case key
        /// As on the command line: `--clip-range`.
        case flag

        /// Spells the setting with this key.
        package func callAsFunction(_ key: String) -> String {
            switch self {
            case .key: key
            case .flag: "--" + key.replacing("_", with: "-")
            }
        }
    }

    fileprivate enum Part { case text(String), setting(String) }

    private let parts: [Part]

    /// Returns the text with all settings spelled in one way.
    package func text(_ spelling: Spelling) -> String {
        parts.map { part in
            switch part {
            case .text(let text): text
            case .setting(let key): spelling(key)
            }
        }.joined()
    }

    /// The text with the keys of settings.
    package var description: String { text(.key) }
}

extension Message: ExpressibleByStringInterpolation {
    /// Collects the parts of a literal.
    package struct StringInterpolation: StringInterpolationProtocol {
        fileprivate var parts: [Part] = []

        /// Starts with no parts.
        package init(literalCapacity: Int, interpolationCount: Int) {}

        /// Appends text.
        package mutating func appendLiteral(_ literal: String) { parts.append(.text(literal)) }

        /// Appends the description of a value.
        package mutating func appendInterpolation(_ value: some CustomStringConvertible) { parts.append(.text(value.description)) }

        /// Appends a message with its settings.
        package mutating func appendInterpolation(_ message: Message) { parts += message.parts }

        /// Appends the name of a setting.
        package mutating func appendInterpolation(setting key: String) { parts.append(.setting(key)) }
    }

    /// The message of a literal without settings.
    package init(stringLiteral text: String) { parts = [.text(text)] }

    /// The message of a literal with interpolations.
    package init(stringInterpolation: StringInterpolation) { parts = stringInterpolation.parts }
}

/// An error whose message names settings; its description has their keys.
package protocol MessageError: OneLineError {
    /// One line: the culprit and the remedy.
    var message: Message { get }
}

extension MessageError {
    /// The message with the keys of settings.
    package var description: String { message.description }
}

/// A setting, or another argument of a run, that cannot be used.
package struct ConfigurationError: MessageError {
    /// One line: the culprit and the remedy.
    package let message: Message

    /// An error with a message of one line.
    package init(_ message: Message) { self.message = message }
}
