import Foundation

/// What a program did.
struct Outcome {
    let status: Int32
    let out: String
    let error: String
}

/// The built programs, run as a user would.
enum Program {
    static let repository = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()
    /// The programs lie beside the tests.
    static let binaries = URL(fileURLWithPath: CommandLine.arguments[0]).resolvingSymlinksInPath().deletingLastPathComponent()

    /// - Parameters:
    ///   - folder: where it runs.
    ///   - interruptAfter: a Ctrl-C is sent when standard output contains this.
    static func run(
        _ program: String, _ arguments: [String], in folder: URL, environment: [String: String] = [:], interruptAfter: String? = nil
    ) throws -> Outcome {
        let process = Process()
        process.executableURL = program.hasPrefix("/") ? URL(fileURLWithPath: program) : binaries.appendingPathComponent(program)
        process.arguments = arguments
        process.currentDirectoryURL = folder
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { _, new in new }
        let (out, error) = (Pipe(), folder.appendingPathComponent("stderr-\(UUID())"))
        try Data().write(to: error)
        process.standardOutput = out
        process.standardError = try FileHandle(forWritingTo: error)
        try process.run()
        var text = Data()
        while case let chunk = out.fileHandleForReading.availableData, !chunk.isEmpty {
            text += chunk
            if let interruptAfter, String(decoding: text, as: UTF8.self).contains(interruptAfter) { process.interrupt() }
        }
        process.waitUntilExit()
        return Outcome(
            status: process.terminationStatus, out: String(decoding: text, as: UTF8.self),
            error: try String(contentsOf: error, encoding: .utf8))
    }
}
