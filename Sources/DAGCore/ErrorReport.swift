import Tensors

/// Errors as the programs show them.
public enum ErrorReport {
    /// An error as one line; libtorch's own are long and name no remedy.
    public static func line(for error: any Error) -> String {
        guard error is TensorError else { return line("\(error)") }
        let first = "\(error)".split(separator: "\n").first.map(String.init) ?? ""
        return first.contains("out of memory")
            ? first + "; lower --train-batch-size, --max-rows-per-pass or --sample-batch-size" : "libtorch: " + first
    }

    /// A text as one line without control characters: what rewards say of their failures is theirs.
    public static func line(_ text: String) -> String {
        text.split { $0.isNewline || $0.unicodeScalars.contains { $0.properties.generalCategory == .control } }.joined(separator: " ")
    }

    /// Whether a flag, setting or prompt file was at fault.
    public static func isUsageError(_ error: any Error) -> Bool { error is ConfigurationError || error is PromptError }
}
