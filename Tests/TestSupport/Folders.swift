import Foundation

/// An empty folder that is removed with the object.
package final class TemporaryFolder {
    /// Its place.
    package let url = FileManager.default.temporaryDirectory.appendingPathComponent("dag-test-\(UUID())")

    /// Makes the folder.
    package init() throws { try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true) }

    deinit { try? FileManager.default.removeItem(at: url) }
}

/// Calls `body` with an empty folder, which is removed afterwards.
package func withFolder<Result>(_ body: (URL) throws -> Result) throws -> Result {
    let folder = try TemporaryFolder()
    return try withExtendedLifetime(folder) { try body(folder.url) }
}
