// What rewards in processes of their own cost, and what they are worth: reward-benchmark overhead|faults [--runs N] [--python PATH]
import Foundation

/// Compiles a shared library with the system's compiler; returns its path.
func compile(_ arguments: [String], to output: URL) throws -> String {
    let include = repository.appendingPathComponent("include").path
    try execute("cc", ["-shared", "-fPIC", "-fvisibility=hidden", "-I", include, "-o", output.path] + arguments)
    return output.path
}

/// Runs a program and returns what it prints.
@discardableResult func execute(_ program: String, _ arguments: [String]) throws -> String {
    let process = Process()
    let pipe = Pipe()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = [program] + arguments
    process.standardOutput = pipe
    try process.run()
    let output = pipe.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    guard process.terminationStatus == 0 else { throw BenchmarkError(description: "\(program) failed") }
    return String(decoding: output, as: UTF8.self)
}

/// A line on standard output, at once.
func say(_ line: String) { try? FileHandle.standardOutput.write(contentsOf: Data((line + "\n").utf8)) }

struct BenchmarkError: Error, CustomStringConvertible { let description: String }

let repository = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

func option(_ name: String, _ otherwise: String) -> String {
    guard let index = CommandLine.arguments.firstIndex(of: name), index + 1 < CommandLine.arguments.count else { return otherwise }
    return CommandLine.arguments[index + 1]
}

let folder = FileManager.default.temporaryDirectory.appendingPathComponent("dag-reward-benchmark-\(getpid())")
do {
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let (runs, python) = (Int(option("--runs", "100")) ?? 100, option("--python", "python3"))
    switch CommandLine.arguments.dropFirst().first {
    case "overhead": try Overhead.run(calls: runs, python: python, folder: folder)
    case "faults": try Faults.run(runs: runs, python: python, folder: folder, root: repository)
    default: throw BenchmarkError(description: "usage: reward-benchmark overhead|faults [--runs N] [--python PATH]")
    }
} catch {
    try? FileHandle.standardError.write(contentsOf: Data("reward-benchmark: \(error)\n".utf8))
    exit(1)
}
