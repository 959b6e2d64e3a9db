/// A reward's description of itself, which needs no model.
package struct RewardDescription: Sendable, Equatable, Codable {
    /// Which calls may overlap.
    package enum ThreadMode: String, Sendable, Codable {
        /// One call at a time into the library, over all its instances.
        case serialized
        /// One call at a time into an instance.
        case perInstance = "per_instance"
        /// Any number of `score` calls.
        case concurrent
    }

    /// A setting that the reward declares.
    package struct Option: Sendable, Equatable, Codable {
        /// The key in the configuration.
        package let key: String
        /// The value that is used if none is given.
        package let defaultValue: String
        /// One line, with the values that it takes.
        package let detail: String

        package init(key: String, defaultValue: String, detail: String) {
            self.key = key
            self.defaultValue = defaultValue
            self.detail = detail
        }

        private enum CodingKeys: String, CodingKey {
            case key
            case defaultValue = "default"
            case detail = "description"
        }
    }

    /// The name in logs and messages: lower-case words joined by `_`.
    package let name: String
    /// The version of the reward, not of the ABI.
    package let version: String
    /// One line of description.
    package let detail: String
    /// SPDX expression of code and weights.
    package let license: String
    /// Paper, repository or address.
    package let source: String
    /// The numbers that it gives each image, in the order of the scores; at least one.
    package let objectives: [RewardObjective]
    /// The settings that it declares.
    package let options: [Option]
    /// Whether the reward takes settings beside `options`; otherwise they are errors.
    package let takesOtherOptions: Bool
    /// Devices that it can use, such as `cpu`, `cuda`.
    package let devices: [String]
    /// Which calls may be made at the same time.
    package let threadMode: ThreadMode
    /// Whether equal images get equal scores.
    package let isDeterministic: Bool
    /// Images that it takes in one call; 0: any number.
    package let largestBatch: Int

    package init(
        name: String, version: String, detail: String, license: String, source: String, objectives: [RewardObjective], options: [Option],
        takesOtherOptions: Bool, devices: [String], threadMode: ThreadMode, isDeterministic: Bool, largestBatch: Int
    ) {
        self.name = name
        self.version = version
        self.detail = detail
        self.license = license
        self.source = source
        self.objectives = objectives
        self.options = options
        self.takesOtherOptions = takesOtherOptions
        self.devices = devices
        self.threadMode = threadMode
        self.isDeterministic = isDeterministic
        self.largestBatch = largestBatch
    }

    private enum CodingKeys: String, CodingKey {
        case name, version, license, source, objectives, options, devices
        case detail = "description"
        case takesOtherOptions = "open_options"
        case threadMode = "thread_mode"
        case isDeterministic = "deterministic"
        case largestBatch = "largest_batch"
    }

    /// Whether a text is lower-case words joined by `_`: names become keys in logs.
    package static func isName(_ text: String) -> Bool {
        !text.isEmpty && text.allSatisfy { $0.isASCII && ($0.isLowercase || $0.isNumber || $0 == "_") }
    }

    /// Makes the name of a reward that has no other from its file's, less the extension.
    package static func name(ofFile stem: String) -> String {
        stem.lowercased().split { !$0.isASCII || !($0.isLetter || $0.isNumber) }.joined(separator: "_")
    }

    /// Validates that names can be keys, and that options can be given and are not the host's own.
    /// - Parameter subject: whose they are, at the start of messages.
    /// - Throws: `RewardError`.
    package func validateNames(_ subject: String) throws {
        for (kind, name) in [("reward", name)] + objectives.map({ ("objective", $0.name) }) where !Self.isName(name) {
            throw RewardError("\(subject) calls its \(kind) `\(name)`, which is not lower-case words joined by _")
        }
        for key in options.map(\.key) {
            if key.isEmpty || key.contains(where: { ",=\"()".contains($0) || $0.isWhitespace }) {
                throw RewardError("\(subject) declares the option `\(key)`, which cannot be written in key=value; rename it")
            }
            if RewardSpecification.hostKeys.contains(key) {
                throw RewardError("\(subject) declares the option \(key), which is this program's own; rename it")
            }
        }
    }

    /// Validates settings and device.
    /// - Throws: `RewardError` that names those that the reward has.
    package func validate(options given: [String: String], device: String) throws {
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
