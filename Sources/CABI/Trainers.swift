import CDAGCore
import Foundation
import Synchronization

/// Registry of live trainers. No handle is used twice, so that a destroyed one is recognised.
enum Trainers {
    private static let table = Mutex<(last: UInt, trainers: [UInt: EmbeddedTrainer])>((0, [:]))

    static func add(_ trainer: EmbeddedTrainer) -> OpaquePointer? {
        table.withLock { table in
            table.last += 16  // aligned like an address, but nothing is there
            table.trainers[table.last] = trainer
            return OpaquePointer(bitPattern: table.last)
        }
    }

    static func find(_ handle: OpaquePointer?) throws -> EmbeddedTrainer {
        guard let handle else { throw Refusal.null("trainer") }
        guard let trainer = table.withLock({ $0.trainers[UInt(bitPattern: handle)] }) else {
            throw Refusal.destroyed
        }
        return trainer
    }

    static func remove(_ handle: OpaquePointer) {
        table.withLock { _ = $0.trainers.removeValue(forKey: UInt(bitPattern: handle)) }
    }
}
