import Foundation
import Rewards
import Support

/// The outcome of a check.
struct CheckOutcome: Codable {
    enum Status: String, Codable { case pass, fail, warn, info, skip }
    let status: Status
    /// A line for the author: the fault and its remedy, or a measurement; "" if there is nothing to say.
    let detail: String

    static let pass = CheckOutcome(status: .pass, detail: "")
    static func warn(_ detail: String) -> CheckOutcome { CheckOutcome(status: .warn, detail: detail) }
    static func info(_ detail: String) -> CheckOutcome { CheckOutcome(status: .info, detail: detail) }
    static func skip(_ detail: String) -> CheckOutcome { CheckOutcome(status: .skip, detail: detail) }
}

/// A check that failed, in a line with the fault and its remedy.
struct CheckFailure: OneLineError {
    let description: String
    init(_ description: String) { self.description = description }
}

/// A test of a reward.
struct Check: Sendable {
    let name: String
    /// The property that is checked, in one line.
    let what: String
    /// Whether only plugins have it.
    let isNative: Bool
    /// Throws `CheckFailure`, or an error of the reward.
    let run: @Sendable (RewardSpecification) throws -> CheckOutcome
}

enum Checks {
    static let all = native + scoring + behaviour

    /// Runs a check in this process and prints its outcome as JSON.
    static func runHere(_ name: String, _ specification: RewardSpecification) throws {
        WorkerServer.prepare()
        // The reward prints to standard error, so that only the outcome goes to standard output; programs
        // that it starts do not inherit that.
        let output = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3)
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

    /// Runs a check in a process of its own, so that crashes, hangs and exits are outcomes too.
    static func runInProcess(_ check: Check, reward: String, timeLimit: Double) throws -> CheckOutcome {
        let process = try CheckProcess(["check", reward, "--single", check.name])
        let status = process.wait(timeLimit)
        let last = process.errors.tail(4000).split(whereSeparator: \.isNewline).last ?? ""
        let said = last.isEmpty ? "" : "; the last it printed: \(last)"
        guard let status else {
            return CheckOutcome(status: .fail, detail: "took longer than \(timeLimit.formatted()) s and was killed (--time-limit)")
        }
        let signal = status & 0x7f
        let code = status >> 8 & 0xff
        if signal != 0 {
            let name = [SIGSEGV: "SIGSEGV", SIGABRT: "SIGABRT", SIGBUS: "SIGBUS", SIGILL: "SIGILL", SIGFPE: "SIGFPE"][signal]
            return CheckOutcome(status: .fail, detail: "ended by \(name ?? "signal \(signal)") while: \(check.what)\(said)")
        }
        guard let outcome = try? JSONDecoder().decode(CheckOutcome.self, from: Data(process.output.tail().utf8)) else {
            return CheckOutcome(status: .fail, detail: "the reward ended the process (exit code \(code)) while: \(check.what)\(said)")
        }
        guard code == 0 else {
            return CheckOutcome(status: .fail, detail: "the process failed at its end (exit code \(code))\(said)")
        }
        return outcome
    }
}
