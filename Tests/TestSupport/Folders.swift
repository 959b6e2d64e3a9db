import Foundation

/// An empty folder that is removed with the object.
public final class TemporaryFolder {
    /// Its place.
    public let url = FileManager.default.temporaryDirectory.appendingPathComponent("dag-test-\(UUID())")

    /// Makes the folder.
    public init() throws { try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true) }

    deinit { try? FileManager.default.removeItem(at: url) }
}

/// Calls `body` with an empty folder, which is removed afterwards.
public func withFolder<Result>(_ body: (URL) throws -> Result) throws -> Result {
    let folder = try TemporaryFolder()
    return try withExtendedLifetime(folder) { try body(folder.url) }
}
