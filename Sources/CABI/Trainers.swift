import CDAGCore
import Foundation
import Synchronization

/// The trainers that there are. A handle is a number that is never used twice, so that one that was destroyed is told from all others.
enum Trainers {
    private static let table = Mutex<(last: UInt, trainers: [UInt: EmbeddedTrainer])>((0, [:]))

    static func add(_ trainer: EmbeddedTrainer) -> OpaquePointer? {
        table.withLock { table in
            table.last += 16  // like an address, which it is not: nothing lies there
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
