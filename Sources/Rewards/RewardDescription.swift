/// What a reward says about itself before any model is loaded.
public struct RewardDescription: Sendable, Equatable, Codable {
    /// Which calls may overlap.
    public enum ThreadMode: String, Sendable, Codable {
        /// One call at a time into the library, over all its instances.
        case serialized
        /// One call at a time into an instance.
        case perInstance = "per_instance"
        /// Any number of `score` calls.
        case concurrent
    }

    /// A key that the reward understands.
    public struct Option: Sendable, Equatable, Codable {
        /// The key in the configuration.
        public let key: String
        /// What holds if it is not given.
        public let defaultValue: String
        /// One line, with the values it takes.
        public let detail: String

        private enum CodingKeys: String, CodingKey {
            case key
            case defaultValue = "default"
            case detail = "description"
        }
    }

    /// Lower-case words joined by `_`.
    public let name: String
    /// Of the reward, not of the ABI.
    public let version: String
    /// One line of description.
    public let detail: String
    /// SPDX expression of code and weights.
    public let license: String
    /// Paper, repository or address.
    public let source: String
    /// What it scores, in the order of the scores; at least one.
    public let objectives: [RewardObjective]
    /// The settings that it declares.
    public let options: [Option]
    /// Whether keys that are not among `options` go to the reward; otherwise they are errors.
    public let takesOtherOptions: Bool
    /// Devices that it can use, such as `cpu`, `cuda`.
    public let devices: [String]
    /// Which calls may be made at the same time.
    public let threadMode: ThreadMode
    /// Whether equal pictures get equal scores.
    public let isDeterministic: Bool
    /// Pictures it takes in one call; 0: any number.
    public let largestBatch: Int

    private enum CodingKeys: String, CodingKey {
        case name, version, license, source, objectives, options, devices
        case detail = "description"
        case takesOtherOptions = "open_options"
        case threadMode = "thread_mode"
        case isDeterministic = "deterministic"
        case largestBatch = "largest_batch"
    }

    /// Whether a text is lower-case words joined by `_`: names become keys in logs.
    public static func isName(_ text: String) -> Bool {
        !text.isEmpty && text.allSatisfy { $0.isASCII && ($0.isLowercase || $0.isNumber || $0 == "_") }
    }

    /// The name of a reward whose file is called so and that has no other.
    static func name(ofFile stem: String) -> String {
        stem.lowercased().split { !$0.isASCII || !($0.isLetter || $0.isNumber) }.joined(separator: "_")
    }

    /// Refuses names that cannot be keys, and options that nobody could give: because they are written so, or are the host's own.
    /// - Parameter subject: whose they are, at the start of messages.
    func validateNames(_ subject: String) throws {
        for (kind, name) in [("reward", name)] + objectives.map({ ("objective", $0.name) }) where !Self.isName(name) {
            throw RewardError("\(subject) calls its \(kind) `\(name)`, which is not lower-case words joined by _")
        }
        for key in options.map(\.key) {
            if key.isEmpty || key.contains(where: { ",=\"()".contains($0) || $0.isWhitespace }) {
                throw RewardError("\(subject) declares the option `\(key)`, which nobody could give a value; rename it")
            }
            if RewardSpecification.hostKeys.contains(key) {
                throw RewardError("\(subject) declares the option \(key), which is this program's own; rename it")
            }
        }
    }

    /// Refuses keys that the reward does not declare and devices that it does not have; throws `RewardError` that names those it has.
    func validate(options given: [String: String], device: String) throws {
        guard devices.contains(where: { device == $0 || device.hasPrefix($0 + ":") }) else {
            throw RewardError("reward \(name) does not run on \(device); it runs on \(devices.joined(separator: ", "))")
        }
        let known = options.map(\.key)
        let others = given.keys.filter { !known.contains($0) }.sorted()
        if !others.isEmpty, !takesOtherOptions {
            let list = known.isEmpty ? "it has none" : "it knows \(known.joined(separator: ", "))"
            throw RewardError(
                "reward \(name) has no option \(others.joined(separator: ", ")); \(list); "
                    + "this program's own are \(RewardSpecification.hostKeys.joined(separator: ", "))")
        }
    }
}
