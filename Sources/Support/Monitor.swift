import Synchronization

/// The error of cancelled work.
package struct Cancelled: Error {
    /// Stands for the request of `Monitor.cancel`.
    package init() {}
}

/// Connects long work with the program that started it: progress and notes go out, cancellation comes in.
///
/// A front end makes one and hands it to everything that works on its behalf. Handlers are set before the
/// work begins and called on the working thread; `cancel` may be called on any thread.
package final class Monitor: @unchecked Sendable {
    /// A kind of work.
    package enum Phase: String, Sendable { case loading, sampling, training, evaluating }

    /// Receives the phase and how many of its parts are done.
    package var onProgress: (_ phase: Phase, _ done: Int, _ total: Int) -> Void = { _, _, _ in }
    /// Receives lines about checks that passed and files that were written.
    package var onNote: (String) -> Void = { _ in }
    /// Receives lines about problems that do not end the work: see `warn`.
    package var onWarning: (String) -> Void = { _ in }
    /// Decides on the working thread whether to stop, beside `cancel`.
    package var shouldStop: () -> Bool = { false }

    /// Tells whether another process of the run asks to stop.
    package var othersStop: @Sendable () -> Bool = { false }

    private let isRequested = Atomic(false)
    private let warnings = Mutex<[String]>([])
    private var latest = (phase: Phase.sampling, done: 0, total: 0)

    /// A monitor without handlers.
    package init() {}

    /// Has the current call, or the next one if that has passed its last check, throw `Cancelled`.
    package func cancel() { isRequested.store(true, ordering: .relaxed) }

    /// Forgets a cancellation when the cancelled call has ended, so that later calls go on.
    package func clearCancellation() { isRequested.store(false, ordering: .relaxed) }

    /// Whether the work is to end.
    package var isCancelled: Bool { isRequested.load(ordering: .relaxed) || shouldStop() || othersStop() }

    /// - Throws: `Cancelled` if the work is to end.
    package func throwIfCancelled() throws { if isCancelled { throw Cancelled() } }

    /// Reports a problem that does not end the work, and keeps the line for `takeWarnings`.
    package func warn(_ line: String) {
        warnings.withLock { $0.append(line) }
        onWarning(line)
    }

    /// Returns the warnings since the last call.
    package func takeWarnings() -> [String] {
        warnings.withLock { lines in
            defer { lines = [] }
            return lines
        }
    }

    /// Reports progress.
    package func report(_ phase: Phase, _ done: Int, of total: Int) {
        latest = (phase, done, total)
        onProgress(phase, done, total)
    }

    /// Repeats the latest report during a wait, so that its receiver may cancel.
    /// - Throws: `Cancelled` if the work is to end.
    package func reportWaiting() throws {
        onProgress(latest.phase, latest.done, latest.total)
        try throwIfCancelled()
    }
}
