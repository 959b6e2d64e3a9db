import Foundation

/// A reward that a Python package offers by the entry point group `dag_rewards`.
package struct PackagedReward: Decodable, Sendable {
    /// The name that it is used by.
    package let name: String
    /// The package and its version.
    package let distribution: String
    /// The plugin or the Python file; nil if there is none.
    package let file: String?
    /// The reason why there is no file.
    package let problem: String?

    /// Asks a Python for the rewards of its packages, none of which is imported.
    /// - Parameter python: the interpreter's path.
    /// - Throws: `RewardError` if there is no such interpreter, or it is older than 3.10.
    package static func all(of python: String) throws -> [PackagedReward] {
        var isFolder: ObjCBool = false
        let exists = FileManager.default.fileExists(atPath: python, isDirectory: &isFolder)
        guard exists, !isFolder.boolValue, FileManager.default.isExecutableFile(atPath: python) else {
            throw RewardError("\(python): \(isFolder.boolValue ? "a folder" : "no such program"); name a Python, such as venv/bin/python")
        }
        func quoted(_ text: String) -> String { "'" + text.replacing("'", with: "'\\''") + "'" }
        let script = String(decoding: PackageResources.packages_py, as: UTF8.self)
        guard let pipe = popen("\(quoted(python)) -c \(quoted(script)) 2>&1 </dev/null", "re") else {
            throw RewardError("\(python) cannot be started: \(String(cString: strerror(errno)))")
        }
        var output = Data()
        var buffer = [UInt8](repeating: 0, count: 4096)
        while case let count = fread(&buffer, 1, buffer.count, pipe), count > 0 { output += buffer.prefix(count) }
        pclose(pipe)
        // A Python that prints something when it starts, or warns, does so on other lines.
        let lines = output.split(separator: UInt8(ascii: "\n"))
        for line in lines.reversed() {
            if let rewards = try? JSONDecoder().decode([PackagedReward].self, from: line) { return rewards }
        }
        let last = lines.last.map { ": " + String(decoding: $0.suffix(300), as: UTF8.self) } ?? ""
        throw RewardError("\(python) cannot tell the rewards of its packages, which takes a Python 3.10 or later\(last)")
    }
}
