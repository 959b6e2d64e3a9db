import Foundation

/// Programs that tests run.
enum Shell {
    /// Runs a program found on PATH, or in `~/.cargo/bin`, and waits for it. Its output is both streams together.
    static func run(_ arguments: [String], in folder: URL, environment: [String: String] = [:]) throws -> (status: Int32, output: String) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = arguments
        process.currentDirectoryURL = folder
        process.environment = ProcessInfo.processInfo.environment
            .merging(["PATH": searchPath.joined(separator: ":")]) { $1 }.merging(environment) { $1 }
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardError = pipe
        process.standardInput = FileHandle.nullDevice
        try process.run()
        let output = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        return (process.terminationStatus, output)
    }

    /// Whether there is such a program.
    static func finds(_ program: String) -> Bool {
        searchPath.contains { FileManager.default.isExecutableFile(atPath: "\($0)/\(program)") }
    }

    private static let searchPath: [String] = {
        let environment = ProcessInfo.processInfo.environment
        return (environment["PATH"] ?? "/usr/bin:/bin").split(separator: ":").map(String.init) + ["\(NSHomeDirectory())/.cargo/bin"]
    }()
}
