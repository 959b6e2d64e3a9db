import Support
import Tensors

/// The text of errors in the front ends.
package enum ErrorReport {
    /// What a trainer needs less memory with: lower these.
    package static let trainerMemory: Message =
        """
        \(setting: "train_batch_size"), \(setting: "max_rows_per_pass") or \(setting: "sample_batch_size"), \
        or set \(setting: "gradient_checkpointing") true
        """

    /// Returns an error as one line, with settings spelled in one way.
    /// - Parameter memory: settings to lower if there is too little memory; nil: a trainer's.
    package static func line(for error: any Error, _ spelling: Message.Spelling, memory: Message? = nil) -> String {
        message(for: error, memory ?? trainerMemory).text(spelling).oneLine
    }

    /// Shortens libtorch's own errors, which are long and name no remedy.
    private static func message(for error: any Error, _ memory: Message) -> Message {
        if let error = error as? any MessageError { return error.message }
        guard let error = error as? TensorError else { return "\("\(error)")" }
        let first = "\(error)".split(separator: "\n").first.map(String.init) ?? ""
        return error.isOutOfMemory ? "\(first); lower \(memory)" : "libtorch: \(first)"
    }

    /// Returns whether a setting or a prompt file was at fault.
    package static func isUsageError(_ error: any Error) -> Bool { error is ConfigurationError || error is PromptError }
}
