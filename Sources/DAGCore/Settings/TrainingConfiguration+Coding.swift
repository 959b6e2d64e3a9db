import Foundation
import Support
import Yams

extension TrainingConfiguration: Encodable {
    /// Writes all settings by their keys.
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: SettingKey.self)
        for setting in Self.settings { try setting.encode(self, to: &container) }
    }

    /// Returns the settings as YAML.
    /// - Throws: `YamlError`.
    package func yaml() throws -> String {
        try Yams.serialize(node: Node(Self.settings.map { (Node($0.key), $0.node(of: self)) }))
    }

    /// The settings as rows of a table in Markdown.
    var markdownRows: String {
        Self.settings.map { "| \($0.key) | \($0.text(of: self).replacing("|", with: "\\|")) |\n" }.joined()
    }

    /// Returns the settings as a JSON object with sorted keys.
    /// - Throws: `EncodingError`.
    package func json() throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return String(decoding: try encoder.encode(self), as: UTF8.self)
    }
}

extension TrainingConfiguration {
    /// Puts the settings of a YAML file over `base`, and `overrides` over both.
    /// - Parameter overrides: values by key, as on a command line: all of a list, else the last.
    /// - Throws: `ConfigurationError` for an unreadable file, an unknown key, or a value of the wrong kind.
    package static func resolve(
        base: TrainingConfiguration = .init(), file: String?, overrides: [String: [String]] = [:]
    ) throws -> Self {
        var configuration = base
        if let file {
            let source: Message = "\(setting: "config") \(file)"
            guard let text = try? String(contentsOfFile: file, encoding: .utf8) else {
                throw ConfigurationError("\(source): cannot be read as UTF-8 text")
            }
            try configuration.read(text, source: source)
        }
        for setting in settings {
            guard let values = overrides[setting.key], let last = values.last else { continue }
            do {
                try setting.set(&configuration, to: setting.isList ? Node(values.map { Node($0) }) : Node(last))
            } catch let error as ConfigurationError {
                throw ConfigurationError("\(setting: setting.key): \(error.message)")
            }
        }
        return configuration
    }

    /// Puts the settings of a YAML text, of which JSON is a part, over `base`.
    /// - Parameter source: the origin of the text, for messages.
    /// - Throws: `ConfigurationError` for another form of text, an unknown key, or a value of the wrong kind.
    package static func resolve(base: TrainingConfiguration = .init(), text: String?, source: Message = "config") throws -> Self {
        var configuration = base
        if let text { try configuration.read(text, source: source) }
        return configuration
    }

    /// Sets the settings of a YAML text. Messages spell these by their keys in every front end.
    private mutating func read(_ text: String, source: Message) throws {
        let root: Node?
        do { root = try Yams.compose(yaml: text) } catch {
            throw ConfigurationError("\(source): \("\(error)".split(separator: "\n").first ?? "not valid YAML")")
        }
        guard let mapping = root?.mapping else {
            throw ConfigurationError("\(source): is not a mapping of settings, key by key")
        }
        for (key, value) in mapping {
            guard let setting = Self.settings.first(where: { $0.key == key.string }) else {
                let name = key.string ?? "?"
                let known = Self.settings.map(\.key).sorted()
                let meant = name.nearest(in: known).map { "did you mean \($0)? " } ?? ""
                throw ConfigurationError("\(source): unknown key '\(name)'; \(meant)known are \(known.joined(separator: ", "))")
            }
            // Settings nest no deeper, and nested aliases may expand to more than fits in memory.
            guard value.scalar != nil || value.sequence?.allSatisfy({ $0.scalar != nil }) == true else {
                throw ConfigurationError("\(source): '\(setting.key)' takes a value or a list of values, and nothing nested")
            }
            do { try setting.set(&self, to: value) } catch let error as ConfigurationError {
                throw ConfigurationError("\(source): \(setting.key): \(error.message)")
            }
        }
    }
}
