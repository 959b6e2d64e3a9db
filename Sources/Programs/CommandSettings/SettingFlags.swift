import ArgumentParser
import DAGCore

/// The flags of a group of settings.
///
/// ArgumentParser finds the flags of a type by reflection. This type shows it one for each setting of the
/// group, so that flags need no declarations of their own. The types of two option groups must differ, hence
/// the parameter.
package struct SettingFlags<Group: FlagGroup>: ParsableArguments, CustomReflectable {
    /// The values that were given, by key.
    package private(set) var values: [String: [String]] = [:]

    /// No flags.
    package init() {}

    /// Takes the flags that were given.
    /// - Throws: an error of the decoder.
    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: SettingKey.self)
        for setting in Self.settings {
            let key = SettingKey(stringValue: setting.key)
            if setting.isList {
                values[setting.key] = try container.decode([String].self, forKey: key)
            } else if let value = try container.decodeIfPresent(String.self, forKey: key) {
                values[setting.key] = [value]
            }
        }
    }

    /// Shows one option for each setting.
    package var customMirror: Mirror {
        Mirror(self, children: Self.settings.map { (label: $0.key, value: Self.option($0)) }, displayStyle: .struct)
    }

    private static var settings: [any SettingDeclaration] { Group.group.settings }

    private static func option(_ setting: any SettingDeclaration) -> Any {
        let name = NameSpecification.customLong(setting.key.replacing("_", with: "-"))
        let text = setting.help + (setting.defaultText.map { " (default: \($0))" } ?? "")
        let help = ArgumentHelp("\(text)", valueName: setting.placeholder)
        return setting.isList
            ? Option<[String]>(wrappedValue: [], name: name, parsing: .singleValue, help: help) as Any
            : Option<String?>(name: name, help: help)
    }
}

/// Chooses a group of settings in a type.
package protocol FlagGroup {
    /// The group.
    static var group: SettingGroup { get }
}

/// Model, rewards and prompts.
package enum Subject: FlagGroup {
    /// The group.
    package static let group = SettingGroup.subject
}
