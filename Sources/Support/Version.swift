/// The version of this package.
public enum DAGVersion {
    /// As in `dag-train --version`.
    public static let text = "0.1.0"
}
