/// The version of this package.
public enum DAGCoreVersion {
    /// As in `dag-train --version`.
    public static let text = "0.1.0"
}
