import Foundation
import Synchronization

/// The locks of the shared libraries in this process: one for each library, however often it is opened.
package enum LibraryLocks {
    private static let locks = Mutex<[UInt: NSLock]>([:])

    /// Returns the library's lock.
    /// - Parameter handle: the result of `dlopen`, which is the same for each opening.
    package static func lock(of handle: UnsafeMutableRawPointer) -> NSLock {
        let key = UInt(bitPattern: handle)
        return locks.withLock { locks in
            let lock = locks[key] ?? NSLock()
            locks[key] = lock
            return lock
        }
    }
}
