/// A reward as the user writes it: `LIB[,key=value...]`, such as
/// `jpeg_compressibility,objective=incompressibility,quality=90`.
///
/// Some keys are the host's (`hostKeys`); all others are the reward's own. A comma between parentheses or
/// double quotes separates nothing. Quotes round a library or a value are taken off.
package struct RewardSpecification: Sendable, Equatable {
    /// The treatment of samples that a reward cannot score.
    package enum FailurePolicy: Sendable, Equatable {
        /// The run ends with an error that says which.
        case fail
        /// The samples are left out of the update.
        case drop
        /// This number is assumed for their trained objective.
        case impute(Float)
    }

    /// `NAME` or `libname.so` to look up, a path, `c:LIB` for functions of a C library, or a Python file.
    package var library: String
    /// The factor of the trained objective in the sum over rewards. 0: held out, that is, watched and not
    /// trained on.
    package var weight: Double
    /// The objective that is trained; nil: the first.
    package var objective: String?
    /// Whether the trained objective is shifted and scaled to mean 0 and standard deviation 1, by running
    /// statistics.
    package var normalize = false
    /// The treatment of samples that cannot be scored.
    package var onFailure = FailurePolicy.fail
    /// Seconds that a call may take, loading the model included.
    package var timeout = 300.0
    /// Whether the reward runs in processes of its own, where a crash, a hang or an exit() costs a retry and
    /// not the run.
    package var isIsolated = true
    /// How many processes a batch is divided among.
    package var workers = 1
    /// The device that it computes on: `cpu`, `cuda`, `cuda:1`.
    package var device = "cpu"
    /// The interpreter of a Python reward, whose packages may have the reward; nil: `defaultPython`.
    package var python: String?
    /// The reward's own settings.
    package var options: [String: String]

    /// Makes a specification; the host's other settings have their defaults.
    package init(library: String, weight: Double = 1, objective: String? = nil, options: [String: String] = [:]) {
        self.library = library
        self.weight = weight
        self.objective = objective
        self.options = options
    }

    /// Keys that a reward never sees.
    package static let hostKeys = ["weight", "objective", "normalize", "on_failure", "timeout", "isolation", "workers", "device", "python"]

    /// Parses `LIB[,key=value...]`.
    /// - Throws: `RewardError` that quotes the part that cannot be read.
    package init(_ text: String) throws {
        let parts = try Self.split(text)
        let library = parts[0].hasPrefix("c:") ? "c:" + Self.unquoted(String(parts[0].dropFirst(2))) : Self.unquoted(parts[0])
        guard !library.isEmpty else { throw RewardError("reward `\(text)` names no library; write LIB[,key=value...]") }
        var settings: [String: String] = [:]
        for part in parts.dropFirst() {
            guard let equals = part.firstIndex(of: "="), equals > part.startIndex else {
                throw RewardError("reward \(library): `\(part)` is not key=value; put a text with a comma between double quotes")
            }
            let key = String(part[..<equals])
            guard settings.updateValue(Self.unquoted(String(part[part.index(after: equals)...])), forKey: key) == nil else {
                throw RewardError("reward \(library): \(key) is given twice")
            }
        }
        self.init(library: library)
        try take(&settings)
        options = settings
    }

    /// Takes the host's keys out of the settings.
    private mutating func take(_ settings: inout [String: String]) throws {
        func take<Value>(_ key: String, _ wanted: String, _ read: (String) -> Value?) throws -> Value? {
            guard let text = settings.removeValue(forKey: key) else { return nil }
            guard let value = read(text) else { throw RewardError("reward \(library): \(key)=\(text) is not \(wanted)") }
            return value
        }
        // As the 32-bit number that it becomes, which is zero only if it is zero.
        func finite(_ text: String) -> Double? {
            Double(text).flatMap { Float($0).isFinite && (Float($0) != 0 || $0 == 0) ? $0 : nil }
        }
        weight = try take("weight", "a finite number", finite) ?? weight
        objective = try take("objective", "a name") { $0 }
        normalize = try take("normalize", "true or false", Bool.init) ?? normalize
        timeout = try take("timeout", "a number of seconds above 0") { finite($0).flatMap { $0 > 0 && $0 < 1e9 ? $0 : nil } } ?? timeout
        isIsolated = try take("isolation", "worker or none") { ["worker": true, "none": false][$0] } ?? isIsolated
        workers = try take("workers", "a number from 1 to 64") { Int($0).flatMap { 1...64 ~= $0 ? $0 : nil } } ?? workers
        device = try take("device", "a device") { $0 } ?? device
        python = try take("python", "a path") { $0 }
        onFailure =
            try take("on_failure", "fail, drop or impute:NUMBER, the score to assume") { text -> FailurePolicy? in
                if text == "fail" { return .fail }
                if text == "drop" { return .drop }
                return text.hasPrefix("impute:") ? finite(String(text.dropFirst(7))).map { .impute(Float($0)) } : nil
            } ?? onFailure
        guard isIsolated || workers == 1 else {
            throw RewardError("reward \(library): workers=\(workers) and isolation=none exclude each other")
        }
        guard python == nil || library.hasSuffix(".py") || isPackageName else {
            throw RewardError(
                "reward \(library): python=\(python ?? "") is for rewards in .py files, and names of those in Python packages")
        }
    }

    /// Removes double quotes around all of a text.
    private static func unquoted(_ text: String) -> String {
        guard text.count > 1, text.hasPrefix("\""), text.hasSuffix("\"") else { return text }
        let inside = text.dropFirst().dropLast()
        return inside.contains("\"") ? text : String(inside)
    }

    /// Splits at the commas outside parentheses and double quotes.
    private static func split(_ text: String) throws -> [String] {
        var parts = [""]
        var depth = 0
        var quoted = false
        for character in text {
            if character == "," && depth == 0 && !quoted {
                parts.append("")
                continue
            }
            if character == "\"" { quoted.toggle() }
            if !quoted, character == "(" { depth += 1 }
            if !quoted, character == ")" { depth -= 1 }
            guard depth >= 0 else { break }
            parts[parts.count - 1].append(character)
        }
        guard depth == 0, !quoted else {
            throw RewardError("reward `\(text)`: a parenthesis or quote lacks its other half; put a text with one between double quotes")
        }
        return parts
    }
}
