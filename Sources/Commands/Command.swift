import ArgumentParser
import DAGCore
import Foundation
import Tensors

/// A program of this package: errors are one line on standard error, `program: what is wrong and what to do`.
public protocol Command: ParsableCommand {
    /// Does the work; errors that it throws end the program with code 2 if a flag, setting or prompt file was at fault, else 1.
    mutating func execute() throws
}

extension Command {
    /// Runs the program. Exit codes: 0 done, 2 a flag, setting or prompt file that cannot be, 1 anything else (model, plugin, folder, run).
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
                report("\(_commandName): \(line(error))\n")
                throw ExitCode(error is ConfigurationError || error is PromptError ? 2 : 1)
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

    /// An error as one line; libtorch's own are long and name no remedy.
    private static func line(_ error: any Error) -> String {
        guard error is TensorError else { return "\(error)" }
        let first = "\(error)".split(separator: "\n").first.map(String.init) ?? ""
        return first.contains("out of memory")
            ? first + "; lower --train-batch-size, --max-rows-per-pass or --sample-batch-size" : "libtorch: " + first
    }
}

/// Writes to standard error; a reader that went away does not matter.
public func report(_ text: String) { try? FileHandle.standardError.write(contentsOf: Data(text.utf8)) }
