import Support
import Tensors

/// The text of errors in the front ends.
package enum ErrorReport {
    /// Returns an error as one line, with settings spelled in one way.
    package static func line(for error: any Error, _ spelling: Message.Spelling) -> String {
        message(for: error).text(spelling).oneLine
    }

    /// Shortens libtorch's own errors, which are long and name no remedy.
    private static func message(for error: any Error) -> Message {
        if let error = error as? any MessageError { return error.message }
        guard error is TensorError else { return "\("\(error)")" }
        let first = "\(error)".split(separator: "\n").first.map(String.init) ?? ""
        guard first.contains("out of memory") else { return "libtorch: \(first)" }
        return """
            \(first); lower \(setting: "train_batch_size"), \(setting: "max_rows_per_pass") or \(setting: "sample_batch_size")
            """
    }

    /// Returns whether a setting or a prompt file was at fault.
    package static func isUsageError(_ error: any Error) -> Bool { error is ConfigurationError || error is PromptError }
}
