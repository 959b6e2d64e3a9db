import ArgumentParser
import DAGCore
import Foundation

/// A program of this package: errors are one line on standard error, `program: what is wrong and what to do`.
public protocol Command: ParsableCommand {
    /// Does the work; errors that it throws end the program with code 2 if the request was at fault, else 1.
    mutating func execute() throws
}

extension Command {
    /// Runs the program. Exit codes: 0 done, 2 a request that cannot be (flags, settings, prompts), 1 anything else that failed.
    public static func main() {
        signal(SIGPIPE, SIG_IGN)
        do {
            var command = try parseAsRoot()
            guard var own = command as? Self else { return try command.run() }  // --help and --version are commands of their own
            do {
                try own.execute()
            } catch let code as ExitCode {
                throw code
            } catch {
                FileHandle.standardError.write(Data("\(_commandName): \(error)\n".utf8))
                throw ExitCode(error is ConfigurationError || error is PromptError ? 2 : 1)
            }
        } catch {
            // The parser's own code for a usage error is 64.
            if exitCode(for: error) == .validationFailure {
                FileHandle.standardError.write(Data((fullMessage(for: error) + "\n").utf8))
                Foundation.exit(2)
            }
            exit(withError: error)
        }
    }
}
