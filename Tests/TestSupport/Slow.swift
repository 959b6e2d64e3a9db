import Foundation
import Testing

extension Trait where Self == ConditionTrait {
    /// A test that takes long: skipped where DAG_QUICK is set, as `make check` sets it.
    public static var slow: Self {
        .disabled(if: ProcessInfo.processInfo.environment["DAG_QUICK"] != nil, "slow: run by make test")
    }
}
