import Foundation
import Testing

/// How a program ended, and what it wrote.
package struct Outcome: Sendable {
    /// Its exit status.
    package let status: Int32
    /// Its standard output.
    package let out: String
    /// Its standard error.
    package let error: String
    /// Standard output, then standard error.
    package var output: String { out + error }
}

/// Programs that tests run.
package enum Shell {
    /// Runs a program to its end, without input.
    /// - Parameters:
    ///   - arguments: the program, by a path or as found in `programs`, on PATH or in `~/.cargo/bin`, and its arguments.
    ///   - folder: its working directory.
    ///   - environment: variables beside those of this process.
    ///   - interruptFile: a Ctrl-C is sent, once, when this file is there.
    package static func run(
        _ arguments: [String], in folder: URL, environment: [String: String] = [:], interruptFile: String? = nil
    ) throws -> Outcome {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = arguments
        process.currentDirectoryURL = folder
        process.environment = ProcessInfo.processInfo.environment
            .merging(["PATH": searchPath.joined(separator: ":")]) { $1 }.merging(environment) { $1 }
        let out = Pipe()
        // A file, because two pipes would have to be read at the same time.
        let error = FileManager.default.temporaryDirectory.appendingPathComponent("stderr-\(UUID())")
        try Data().write(to: error)
        defer { try? FileManager.default.removeItem(at: error) }
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = out
        process.standardError = try FileHandle(forWritingTo: error)
        try process.run()
        if let interruptFile {
            Thread.detachNewThread {
                while process.isRunning {
                    if FileManager.default.fileExists(atPath: interruptFile) { return process.interrupt() }
                    Thread.sleep(forTimeInterval: 0.05)
                }
            }
        }
        let text = out.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return Outcome(
            status: process.terminationStatus, out: String(decoding: text, as: UTF8.self),
            error: String(decoding: try Data(contentsOf: error), as: UTF8.self))
    }

    /// Whether a program is installed and works: it is asked for its version.
    package static func has(_ program: String) -> Bool {
        (try? run([program, program == "go" ? "version" : "--version"], in: FileManager.default.temporaryDirectory))?.status == 0
    }

    private static let searchPath: [String] = {
        let path = ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin"
        return [programs.path] + path.split(separator: ":").map(String.init) + ["\(NSHomeDirectory())/.cargo/bin"]
    }()
}

/// Runs the C compiler; fails the test if it refuses.
package func compile(_ arguments: [String]) throws {
    let outcome = try Shell.run(["cc"] + arguments, in: FileManager.default.temporaryDirectory)
    try #require(outcome.status == 0, "cc \(arguments.joined(separator: " ")): \(outcome.output)")
}

/// Compiles `Tests/Plugins/<source>.c` into a folder, as a plugin's author would.
/// - Returns: the library's path.
package func plugin(_ source: String, _ flags: [String] = [], in folder: URL) throws -> String {
    let output = folder.appendingPathComponent("lib\(source).so").path
    let include = repository.appendingPathComponent("include").path
    let file = repository.appendingPathComponent("Tests/Plugins/\(source).c").path
    try compile(flags + ["-shared", "-fPIC", "-fvisibility=hidden", "-I", include, "-o", output, file])
    return output
}

/// Waits until something is so, for a minute at most.
/// - Returns: whether it is.
package func waitUntil(_ condition: () throws -> Bool) throws -> Bool {
    let patience = Date(timeIntervalSinceNow: 60)
    while try !condition(), Date() < patience { usleep(10_000) }
    return try condition()
}
