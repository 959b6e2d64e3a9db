import ArgumentParser
import Dispatch
import Foundation

/// A program of this package, or a subcommand of one. Errors are one line on standard error: `program:
/// culprit and remedy`.
package protocol Command: ParsableCommand {
    /// Does the work.
    /// - Throws: any error, which ends the program.
    mutating func execute() throws
    /// Returns an error as one line.
    static func line(for error: any Error) -> String
    /// Returns whether a flag, setting or prompt file was at fault: exit code 2, else 1.
    static func isUsageError(_ error: any Error) -> Bool
}

extension Command {
    /// The error's own description.
    package static func line(for error: any Error) -> String { "\(error)" }
    /// False for every error.
    package static func isUsageError(_ error: any Error) -> Bool { false }

    /// Runs the program. Exit codes: 0 done, 2 a usage error, 1 anything else (model, plugin, folder, run).
    package static func main() {
        signal(SIGPIPE, SIG_IGN)
        signal(SIGCHLD, SIG_DFL)  // were it ignored, as a parent may have left it, waiting for a reward's process would fail
        do {
            var command = try parseAsRoot()
            guard var own = command as? any Command else { return try command.run() }  // --help and --version are commands of their own
            do {
                try own.execute()
            } catch let code as ExitCode {
                throw code
            } catch {
                report("\(_commandName): \(line(for: error))\n")
                throw ExitCode(isUsageError(error) ? 2 : 1)
            }
        } catch {
            // The parser's own code for a usage error is 64.
            if exitCode(for: error) == .validationFailure {
                report(fullMessage(for: error) + "\n")
                Foundation.exit(2)
            }
            exit(withError: error)
        }
    }
}

/// Writes to standard error; does nothing if its reader has gone away.
package func report(_ text: String) { try? FileHandle.standardError.write(contentsOf: Data(text.utf8)) }

/// Writes a line to standard output; does nothing if its reader has gone away.
package func say(_ line: String) { try? FileHandle.standardOutput.write(contentsOf: Data((line + "\n").utf8)) }

/// Has Ctrl-C and SIGTERM stop the work, and a second one end the program at once.
/// - Parameters:
///   - line: what is said then; nil: nothing.
///   - stop: called at the first signal, on another thread.
/// - Returns: what is to be cancelled when the work is done.
package func onInterrupt(saying line: String?, _ stop: @escaping @Sendable () -> Void) -> [any DispatchSourceSignal] {
    [SIGINT, SIGTERM].map { number in
        signal(number, SIG_IGN)
        let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
        nonisolated(unsafe) var asked = false
        source.setEventHandler {
            if asked { _exit(130) }
            asked = true
            if let line { report("\n\(line)\n") }
            stop()
        }
        source.resume()
        return source
    }
}
