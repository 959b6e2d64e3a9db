import CDAGCore
import Foundation
import Synchronization

/// Registry of live trainers and scorers. No handle is used twice, so that a destroyed one is recognised.
enum Handles {
    private static let table = Mutex<(last: UInt, objects: [UInt: any AnyObject & Sendable])>((0, [:]))

    static func add(_ object: any AnyObject & Sendable) -> OpaquePointer? {
        table.withLock { table in
            table.last += 16  // aligned like an address, but nothing is there
            table.objects[table.last] = object
            return OpaquePointer(bitPattern: table.last)
        }
    }

    /// - Parameter kind: the object's name in messages.
    /// - Throws: `Refusal` if there is no such object.
    static func find<Object>(_ handle: OpaquePointer?, _ kind: String, as: Object.Type) throws -> Object {
        guard let handle else { throw Refusal.null(kind) }
        guard let object = table.withLock({ $0.objects[UInt(bitPattern: handle)] }) as? Object else {
            throw Refusal.destroyed(kind)
        }
        return object
    }

    static func remove(_ handle: OpaquePointer) {
        // Outside of the lock: what ends with the object may take its time.
        let removed = table.withLock { $0.objects.removeValue(forKey: UInt(bitPattern: handle)) }
        withExtendedLifetime(removed) {}
    }
}
