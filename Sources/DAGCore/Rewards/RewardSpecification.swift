import Foundation

/// A reward as the user writes it: `LIB[,key=value...]`, such as `jpeg_compressibility,objective=incompressibility,quality=90`.
///
/// The keys `weight` and `objective` are the host's; all others are handed to the plugin.
public struct RewardSpecification: Sendable, Equatable {
    /// A path if it has a slash, else a name to look up: `hps` or `libhps.so`.
    public var library: String
    /// The factor of the trained objective in the sum over rewards. 0: only logged.
    public var weight: Double
    /// The objective that is trained; nil: the plugin's first.
    public var objective: String?
    /// The plugin's settings.
    public var options: [String: String]

    /// A specification from its parts.
    public init(library: String, weight: Double = 1, objective: String? = nil, options: [String: String] = [:]) {
        self.library = library
        self.weight = weight
        self.objective = objective
        self.options = options
    }

    /// Keys that a plugin never sees.
    static let hostKeys = ["weight", "objective"]

    /// Parses `LIB[,key=value...]`. Throws `RewardError` that quotes what it cannot read.
    public init(_ text: String) throws {
        let parts = text.split(separator: ",", omittingEmptySubsequences: false)
        let library = String(parts[0])
        guard !library.isEmpty else { throw RewardError("reward `\(text)` names no library; write LIB[,key=value...]") }
        var settings: [String: String] = [:]
        for part in parts.dropFirst() {
            guard let equals = part.firstIndex(of: "="), equals > part.startIndex else {
                throw RewardError("reward \(library): `\(part)` is not key=value")
            }
            let key = String(part[..<equals])
            guard settings.updateValue(String(part[part.index(after: equals)...]), forKey: key) == nil else {
                throw RewardError("reward \(library): \(key) is given twice")
            }
        }
        var weight = 1.0
        if let text = settings.removeValue(forKey: "weight") {
            guard let number = Double(text), number.isFinite else {
                throw RewardError("reward \(library): weight=\(text) is not a finite number")
            }
            weight = number
        }
        let objective = settings.removeValue(forKey: "objective")
        self.init(library: library, weight: weight, objective: objective, options: settings)
    }

    /// The library's path. A name without a slash is looked for in the folders of `DAG_REWARD_PATH` (separated by colons), beside the
    /// executable, and in `../lib/dag/rewards` from there. Throws `RewardError` that lists them if it is in none.
    public func path(
        environment: [String: String] = ProcessInfo.processInfo.environment, executable: URL? = Bundle.main.executableURL
    ) throws -> String {
        let isLibrary = library.hasSuffix(".so") || library.hasSuffix(".dylib")
        if library.contains("/") {
            guard FileManager.default.fileExists(atPath: library) else {
                throw RewardError("reward \(library): no such file")
            }
            return library
        }
        var folders = (environment["DAG_REWARD_PATH"] ?? "").split(separator: ":").map(String.init)
        if let beside = executable?.resolvingSymlinksInPath().deletingLastPathComponent() {
            folders += [beside.path, beside.appendingPathComponent("../lib/dag/rewards").standardized.path]
        }
        let file = isLibrary ? library : "lib\(library).\(Self.librarySuffix)"
        guard let folder = folders.first(where: { FileManager.default.fileExists(atPath: "\($0)/\(file)") }) else {
            throw RewardError(
                "reward \(library): no \(file) in \(folders.joined(separator: ", ")); give a path with a slash or set DAG_REWARD_PATH")
        }
        return "\(folder)/\(file)"
    }

    #if os(macOS)
        private static let librarySuffix = "dylib"
    #else
        private static let librarySuffix = "so"
    #endif
}
