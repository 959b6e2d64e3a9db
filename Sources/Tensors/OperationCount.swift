import Synchronization

/// Counts the floating-point operations of matrix products and convolutions by their shapes: two for each
/// multiplication and its addition. Elementwise operations are not counted, nor are those of a backward pass.
package final class OperationCount: Sendable {
    @TaskLocal private static var current: OperationCount?
    private let total = Atomic(0)

    private init() {}

    /// Runs `body` and counts its operations.
    package static func of<Result>(_ body: () throws -> Result) rethrows -> (Result, operations: Double) {
        let count = OperationCount()
        let result = try $current.withValue(count, operation: body)
        return (result, Double(count.total.load(ordering: .relaxed)))
    }

    /// Counts operations, if anyone asks.
    static func add(_ operations: () -> Int) { current?.total.add(operations(), ordering: .relaxed) }
}
