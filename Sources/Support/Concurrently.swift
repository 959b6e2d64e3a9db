import Foundation

/// Runs `body` for 0..<count, each on a thread of its own, and waits for all.
///
/// `body` and everything that it captures are released before this returns.
package func concurrently<Value>(_ count: Int, _ body: @escaping @Sendable (Int) -> Value) -> [Value] {
    let shared = ConcurrentCalls(count, body)
    let group = DispatchGroup()
    for index in 0..<count {
        group.enter()
        // A thread may release its block only after `leave`; `finish` releases `body` in time.
        Thread.detachNewThread {
            shared.call(index)
            group.leave()
        }
    }
    group.wait()
    return shared.finish()
}

/// The state that the threads of `concurrently` share.
private final class ConcurrentCalls<Value>: @unchecked Sendable {
    private var body: ((Int) -> Value)?
    private var values: [Value?]
    private let lock = NSLock()

    init(_ count: Int, _ body: @escaping (Int) -> Value) {
        self.body = body
        values = Array(repeating: nil, count: count)
    }

    func call(_ index: Int) {
        guard let value = body?(index) else { return }
        lock.withLock { values[index] = value }
    }

    func finish() -> [Value] {
        defer {
            body = nil
            values = []
        }
        return values.map { $0! }
    }
}
