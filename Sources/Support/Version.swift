/// The version of this package.
package enum DAGVersion {
    /// As in `dag-train --version`.
    package static let text = "0.1.0"
}
