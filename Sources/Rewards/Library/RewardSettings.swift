import CDAGCore
import Foundation

/// A plugin's settings with their defaults, in the order that `dag_reward.h` promises.
package struct RewardSettings {
    let settings: [(key: String, value: String)]
    /// The settings as a JSON object; values that are JSON numbers, true or false are not quoted.
    let json: String

    /// - Parameter given: the user's settings, after `RewardDescription.validate`.
    package init(_ given: [String: String], for description: RewardDescription) {
        let known = description.options.map(\.key)
        let others = given.keys.filter { !known.contains($0) }.sorted()
        settings = description.options.map { ($0.key, given[$0.key] ?? $0.defaultValue) } + others.map { ($0, given[$0]!) }
        json = "{" + settings.map { "\(Self.quote($0.key)):\(Self.literal($0.value))" }.joined(separator: ",") + "}"
    }

    /// Lends the settings to a function, as a plugin borrows them.
    package func withConfig<Result>(device: String, _ body: (UnsafePointer<dag_reward_config>) -> Result) -> Result {
        var owned: [UnsafeMutablePointer<CChar>?] = []
        defer { for pointer in owned { free(pointer) } }
        func text(_ string: String) -> UnsafePointer<CChar>? {
            owned.append(strdup(string))
            return UnsafePointer(owned[owned.count - 1])
        }
        let pairs = settings.map { dag_reward_setting(key: text($0.key), value: text($0.value)) }
        return pairs.withUnsafeBufferPointer { pairs in
            var config = dag_reward_config(
                struct_size: UInt32(MemoryLayout<dag_reward_config>.size), setting_count: UInt32(pairs.count),
                settings: pairs.baseAddress, json: dag_reward_text(data: text(json), size: json.utf8.count), device: text(device))
            return body(&config)
        }
    }

    private static func literal(_ value: String) -> String {
        let parsed = try? JSONSerialization.jsonObject(with: Data(value.utf8), options: .fragmentsAllowed)
        return parsed is NSNumber ? value : quote(value)
    }

    private static func quote(_ text: String) -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = .withoutEscapingSlashes
        // Encoding a string cannot fail.
        return String(decoding: (try? encoder.encode(text)) ?? Data(), as: UTF8.self)
    }
}
