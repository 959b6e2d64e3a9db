import Foundation

extension NSLock {
    private static let registry = NSLock()
    private nonisolated(unsafe) static var ofLibraries: [UnsafeMutableRawPointer: NSLock] = [:]

    /// One lock for each library, however often it is opened.
    /// - Parameter handle: what `dlopen` gives, each time the same.
    static func ofLibrary(_ handle: UnsafeMutableRawPointer) -> NSLock {
        registry.withLock {
            let lock = ofLibraries[handle] ?? NSLock()
            ofLibraries[handle] = lock
            return lock
        }
    }
}
