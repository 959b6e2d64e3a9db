import Yams

/// A section of `--help` and of docs/configuration.md.
package struct SettingGroup: Sendable {
    /// The section's heading.
    package let title: String
    /// The settings in their order.
    package let settings: [any SettingDeclaration]

    init(_ title: String, _ settings: any SettingDeclaration...) {
        self.title = title
        self.settings = settings
    }

    /// A group of settings that other groups have.
    init(_ title: String, keys: [String]) {
        self.title = title
        settings = keys.compactMap { key in TrainingConfiguration.settings.first { $0.key == key } }
    }
}

/// Whether a run that is continued may change the value.
package enum ResumeRule: Sendable {
    /// Checkpoints, or an epoch under way, depend on the value.
    case fixed
    case mayChange
}

/// The range of a setting.
package struct Limits<Value: SettingValue>: Sendable {
    /// The values in words that fit behind "must be".
    let words: String
    /// An explanation for the error message.
    var reason: String?
    let contains: @Sendable (Value) -> Bool
}

extension Limits where Value == Int {
    static func from(_ least: Int, to most: Int = TrainingConfiguration.most) -> Self {
        Self(words: "from \(least) to \(most)") { (least...most).contains($0) }
    }
}

extension Limits where Value == Double {
    static var aboveZero: Self { Self(words: "above zero") { $0 > 0 } }
    static var belowOne: Self { Self(words: "zero or more and below 1") { $0 >= 0 && $0 < 1 } }
    static var zeroOrMore: Self { Self(words: "zero or more") { $0 >= 0 } }
    static func aboveZero(to most: Double) -> Self { Self(words: "above zero and at most \(most.shortText)") { $0 > 0 && $0 <= most } }
    static func aboveZero(because reason: String) -> Self {
        var limits = aboveZero
        limits.reason = reason
        return limits
    }
}

/// A setting of a run, without its default, which stands at the property of `TrainingConfiguration`.
package protocol SettingDeclaration: Sendable {
    /// The name in YAML, in the C API and in Python.
    var key: String { get }
    var onResume: ResumeRule { get }
    /// A sentence or two for `--help` and the documentation.
    var help: String { get }
    /// More for the documentation, in Markdown.
    var note: String { get }
    /// The name of a value in `--help`.
    var placeholder: String { get }
    /// The default in words; nil if the setting has to be given.
    var defaultText: String? { get }
    /// Whether the setting is a list, and its flag may be repeated.
    var isList: Bool { get }

    /// Returns the value as it stands in a YAML file.
    func node(of configuration: TrainingConfiguration) -> Node
    /// Sets the value from a YAML file.
    /// - Throws: `ConfigurationError`, without the key, if the value is of another kind.
    func set(_ configuration: inout TrainingConfiguration, to node: Node) throws
    /// Validates the value by itself.
    /// - Throws: `ConfigurationError` if it is out of range.
    func validate(_ configuration: TrainingConfiguration) throws
    /// Returns whether two configurations have the same value.
    func isEqual(_ one: TrainingConfiguration, _ other: TrainingConfiguration) -> Bool
    /// Writes the value for `TrainingConfiguration.json`.
    func encode(_ configuration: TrainingConfiguration, to container: inout KeyedEncodingContainer<SettingKey>) throws
}

extension SettingDeclaration {
    /// Returns the value for messages.
    func text(of configuration: TrainingConfiguration) -> String {
        let node = node(of: configuration)
        return node.scalar?.string ?? node.array().compactMap(\.scalar?.string).joined(separator: ", ")
    }
}

/// The key of a setting in a coder's container.
package struct SettingKey: CodingKey {
    package let stringValue: String
    package var intValue: Int? { nil }

    package init(stringValue: String) { self.stringValue = stringValue }
    package init?(intValue: Int) { nil }
}

/// A setting whose value is of the type of a property of `TrainingConfiguration`.
struct Setting<Value: SettingValue>: SettingDeclaration {
    let key: String
    let path: WritableKeyPath<TrainingConfiguration, Value> & Sendable
    let limits: Limits<Value>?
    let onResume: ResumeRule
    let help: String
    let note: String
    let placeholder: String
    let defaultText: String?
    let isList = Value.self == [String].self

    /// - Parameters:
    ///   - isRequired: whether there is no default.
    ///   - shown: the default in words, where its value is a code such as 0 for "by sample size".
    init(
        _ key: String, _ path: WritableKeyPath<TrainingConfiguration, Value> & Sendable, in limits: Limits<Value>? = nil,
        onResume: ResumeRule = .fixed, isRequired: Bool = false, default shown: String? = nil,
        placeholder: String = Value.placeholder, help: String, note: String = ""
    ) {
        self.key = key
        self.path = path
        self.limits = limits
        self.onResume = onResume
        self.help = help
        self.note = note
        self.placeholder = placeholder
        defaultText = isRequired ? nil : shown ?? TrainingConfiguration()[keyPath: path].node.scalar?.string
    }

    func node(of configuration: TrainingConfiguration) -> Node { configuration[keyPath: path].node }

    func set(_ configuration: inout TrainingConfiguration, to node: Node) throws {
        guard let value = Value(node: node) else {
            let found = node.scalar.map { "'\($0.string)'" } ?? "a list"
            throw ConfigurationError("\(found) is not \(Value.kind)\(limits.map { ", \($0.words)" } ?? "")")
        }
        configuration[keyPath: path] = value
    }

    func validate(_ configuration: TrainingConfiguration) throws {
        guard let limits, !limits.contains(configuration[keyPath: path]) else { return }
        let reason = limits.reason.map { ": \($0)" } ?? ""
        throw ConfigurationError("\(setting: key) must be \(limits.words), not \(text(of: configuration))\(reason)")
    }

    func isEqual(_ one: TrainingConfiguration, _ other: TrainingConfiguration) -> Bool { one[keyPath: path] == other[keyPath: path] }

    func encode(_ configuration: TrainingConfiguration, to container: inout KeyedEncodingContainer<SettingKey>) throws {
        try container.encode(configuration[keyPath: path], forKey: SettingKey(stringValue: key))
    }
}
