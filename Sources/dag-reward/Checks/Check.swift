import Foundation
import Rewards

/// What a check found.
struct CheckOutcome: Codable {
    enum Status: String, Codable { case pass, fail, warn, info, skip }
    let status: Status
    /// What is wrong and what the author should do; what was measured. "" if there is nothing to say.
    let detail: String

    static let pass = CheckOutcome(status: .pass, detail: "")
    static func warn(_ detail: String) -> CheckOutcome { CheckOutcome(status: .warn, detail: detail) }
    static func info(_ detail: String) -> CheckOutcome { CheckOutcome(status: .info, detail: detail) }
    static func skip(_ detail: String) -> CheckOutcome { CheckOutcome(status: .skip, detail: detail) }
}

/// A check that failed: what is wrong and what the author should do.
struct CheckFailure: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

/// Something that is tried out on a reward.
struct Check: Sendable {
    let name: String
    /// What is right, in one line.
    let what: String
    /// Whether it is for plugins alone.
    let isNative: Bool
    /// Throws what is wrong.
    let run: @Sendable (RewardSpecification) throws -> CheckOutcome
}

enum Checks {
    static let all = native + behaviour

    /// Runs a check in this process and prints its outcome as JSON.
    static func runHere(_ name: String, _ specification: RewardSpecification) throws {
        // What the reward prints must not mix with the outcome.
        let output = dup(STDOUT_FILENO)
        dup2(STDERR_FILENO, STDOUT_FILENO)
        let outcome: CheckOutcome
        do {
            outcome = try all.first { $0.name == name }!.run(specification)
        } catch {
            outcome = CheckOutcome(status: .fail, detail: "\(error)")
        }
        let data = try JSONEncoder().encode(outcome)
        _ = data.withUnsafeBytes { write(output, $0.baseAddress!, $0.count) }
    }

    /// Runs a check in a process of its own, so that whatever the reward does is an outcome.
    static func runInProcess(_ check: Check, reward: String, timeLimit: Double) throws -> CheckOutcome {
        let process = Process()
        let (output, errors) = (Pipe(), Pipe())
        process.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        process.arguments = ["check", reward, "--single", check.name]
        process.environment = ProcessInfo.processInfo.environment.merging(["SWIFT_BACKTRACE": "enable=no"]) { _, own in own }
        (process.standardInput, process.standardOutput, process.standardError) = (FileHandle.nullDevice, output, errors)
        try process.run()
        let isLate = Flag()
        let pid = process.processIdentifier
        let timer = DispatchWorkItem {
            isLate.raise()
            kill(pid, SIGKILL)
        }
        DispatchQueue.global().asyncAfter(deadline: .now() + timeLimit, execute: timer)
        let noise = TailReader(errors.fileHandleForReading)
        let answer = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        timer.cancel()
        let last = noise.lastLine()
        let said = last.isEmpty ? "" : "; the last it printed: \(last)"
        if isLate.isRaised {
            return CheckOutcome(status: .fail, detail: "took longer than \(timeLimit.formatted()) s and was killed (--time-limit)")
        }
        if process.terminationReason == .uncaughtSignal {
            let name = [SIGSEGV: "SIGSEGV", SIGABRT: "SIGABRT", SIGBUS: "SIGBUS", SIGILL: "SIGILL", SIGFPE: "SIGFPE"][
                process.terminationStatus]
            return CheckOutcome(
                status: .fail, detail: "ended by \(name ?? "signal \(process.terminationStatus)") while: \(check.what)\(said)")
        }
        guard let outcome = try? JSONDecoder().decode(CheckOutcome.self, from: answer) else {
            return CheckOutcome(
                status: .fail, detail: "the reward ended the process (exit code \(process.terminationStatus)) while: \(check.what)\(said)")
        }
        guard process.terminationStatus == 0 else {
            return CheckOutcome(
                status: .fail, detail: "the process did not end well after it (exit code \(process.terminationStatus))\(said)")
        }
        return outcome
    }
}

/// Something that is set once, by one thread or another.
private final class Flag: @unchecked Sendable {
    private let lock = NSLock()
    private var value = false
    func raise() { lock.withLock { value = true } }
    var isRaised: Bool { lock.withLock { value } }
}

/// Reads a pipe to its end in the background.
private final class TailReader: @unchecked Sendable {
    private let group = DispatchGroup()
    private var text = ""

    init(_ handle: FileHandle) {
        group.enter()
        DispatchQueue.global().async {
            self.text = String(decoding: handle.readDataToEndOfFile().suffix(4000), as: UTF8.self)
            self.group.leave()
        }
    }

    /// A child of the reward may keep the pipe open for ever.
    func lastLine() -> String {
        guard group.wait(timeout: .now() + 1) == .success else { return "" }
        return text.split(separator: "\n").last.map(String.init) ?? ""
    }
}
