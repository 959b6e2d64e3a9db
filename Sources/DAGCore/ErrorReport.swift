import Rewards
import Support
import Tensors

/// Errors as the programs show them.
public enum ErrorReport {
    /// An error as one line; libtorch's own are long and name no remedy.
    public static func line(for error: any Error) -> String {
        guard error is TensorError else { return "\(error)".oneLine }
        let first = "\(error)".split(separator: "\n").first.map(String.init) ?? ""
        return first.contains("out of memory")
            ? first + "; lower --train-batch-size, --max-rows-per-pass or --sample-batch-size" : "libtorch: " + first
    }

    /// Whether a flag, setting or prompt file was at fault.
    public static func isUsageError(_ error: any Error) -> Bool { error is ConfigurationError || error is PromptError }
}
