import CDAGCore
import CGuard
import DAGCore
import Foundation
import Images
import Rewards
import Support

/// The object behind a handle: a run, its trainer once started, and memory lent to the caller.
final class EmbeddedTrainer: @unchecked Sendable {
    /// Changed only before start.
    private(set) var run: TrainingRun
    private var rewards: [(RewardSpecification, any Reward)] = []
    private var callbacks: [Callback] = []
    private var isClosed = false
    private var observer: dag_observer?
    /// The end of the call under way that the observer has asked for.
    private var stop: Refusal?
    /// The newest optimiser step's line of metrics.jsonl.
    private var metrics: String?
    /// Memory that the caller borrows, by its purpose.
    private var lent: [String: Lent] = [:]

    private let use = NSLock()
    private let monitor = Monitor()
    private(set) var trainer: Trainer?

    init(_ run: TrainingRun) {
        self.run = run
        monitor.shouldStop = { [unowned self] in stop != nil }
        monitor.onProgress = { [unowned self] phase, done, total in
            let phase =
                switch phase {
                case .loading: DAG_LOADING
                case .sampling: DAG_SAMPLING
                case .training: DAG_TRAINING
                case .evaluating: DAG_EVALUATING
                }
            notify { guard_progress($0, Int32(phase), UInt64(done), UInt64(total), $1, $2) }
        }
        func log(_ level: Int) -> (String) -> Void {
            { [unowned self] line in notify { guard_log($0, Int32(level), line.oneLine, $1, $2) } }
        }
        monitor.onNote = log(DAG_LOG_NOTE)
        monitor.onWarning = log(DAG_LOG_WARNING)
    }

    /// Runs `body` while no other call may use the trainer.
    /// - Throws: `DAG_BUSY` in a callback and during another call, or an error of `body`.
    func exclusively(_ body: () throws -> Void) throws {
        guard guard_inside() != identity, use.try() else {
            throw Refusal(DAG_BUSY, "the trainer is busy with another call; from a callback only dag_trainer_cancel may be called")
        }
        defer { use.unlock() }
        guard !isClosed else { throw Refusal.destroyed("trainer") }
        try body()
    }

    /// Ends training. Callbacks are no longer called and their contexts are released when this returns.
    func close() {
        isClosed = true
        trainer?.abandonScores()
        trainer = nil
        rewards = []
        run.team = Team()
        for callback in callbacks { callback.release() }
    }

    private var identity: UnsafeRawPointer { UnsafeRawPointer(Unmanaged.passUnretained(self).toOpaque()) }

    /// Returns the trainer.
    /// - Throws: `DAG_ORDER` before start.
    func started() throws -> Trainer {
        guard let trainer else { throw Refusal(DAG_ORDER, "the trainer is not started: call dag_trainer_start first") }
        return trainer
    }

    /// Works with the trainer. The observer's stop ends only this work, `cancel` the first that it reaches.
    func work<Value>(_ body: (Trainer) throws -> Value) throws -> Value {
        defer { stop = nil }
        do { return try body(started()) } catch let cancelled as Cancelled {
            if let stop { throw stop }
            monitor.clearCancellation()
            throw cancelled
        }
    }

    /// Returns the newest optimiser step's line of metrics.jsonl.
    /// - Throws: `DAG_ORDER` before the first.
    func newestMetrics() throws -> String {
        guard let metrics else { throw Refusal(DAG_ORDER, "there was no optimiser step yet") }
        return metrics
    }

    /// - Throws: `DAG_ORDER` after start.
    private func checkNotStarted() throws {
        guard trainer == nil else { throw Refusal(DAG_ORDER, "rewards can only be added before dag_trainer_start") }
    }

    /// Joins the other processes of the run.
    /// - Throws: `DAG_ORDER` after start or a call before, or an error of `makeTeam`.
    func join(_ makeTeam: () throws -> Team) throws {
        guard trainer == nil, run.team.count == 1 else {
            throw Refusal(DAG_ORDER, "other processes can be joined once, before dag_trainer_start")
        }
        run.team = try makeTeam()
    }

    func addPlugin(_ specification: String) throws {
        try checkNotStarted()
        _ = try RewardSpecification(specification).locate()
        run.configuration.rewardPlugin.append(specification)
    }

    func add(_ callback: dag_callback) throws {
        try checkNotStarted()
        guard callback.score != nil else { throw Refusal.null("callback->score") }
        let function = Callback(callback, of: identity)
        let reward = try EmbeddedReward(callback) { function.score($0, $1, $2) }
        guard !rewards.contains(where: { $0.1.name == reward.name }) else {
            throw Refusal(DAG_INVALID, "there is a callback \(reward.name) already; give each a name of its own")
        }
        callbacks.append(function)
        rewards.append((reward.specification, reward))
    }

    func observe(_ observer: dag_observer?) { self.observer = observer }

    func start() throws {
        guard trainer == nil else { throw Refusal(DAG_ORDER, "the trainer is started already") }
        let made: Trainer
        do {
            made = try run.prepare(rewards: rewards, monitor: monitor)
        } catch let error as RewardError {
            if monitor.isCancelled {
                monitor.clearCancellation()
                throw Cancelled()
            }
            // Errors in making a reward are the caller's (DAG_INVALID), those in scoring not (DAG_FAILED).
            throw Refusal(DAG_INVALID, error.description)
        }
        made.onStep = { [unowned self] step in
            metrics = (try? step.json()).map { String(decoding: $0, as: UTF8.self).trimmingCharacters(in: .newlines) }
            notify { guard_step($0, metrics, $1, $2) }
        }
        trainer = made
        do {
            monitor.onNote(made.summary)
            try work { try $0.begin() }
        } catch {
            trainer = nil
            throw error
        }
    }

    /// Calls a function of the observer. A result other than 0 cancels.
    private func notify(_ function: (UnsafePointer<dag_observer>, UnsafeMutablePointer<CChar>, Int) -> Int32) {
        guard var observer else { return }
        var message = [CChar](repeating: 0, count: 512)
        let outer = guard_set_inside(identity)
        let answer = function(&observer, &message, message.count)
        _ = guard_set_inside(outer)
        guard answer != 0, stop == nil else { return }
        let reason = String(decoding: message.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
        stop = Refusal(DAG_CANCELLED, reason.isEmpty ? "cancelled" : "cancelled by an observer: \(reason)")
    }

    /// Ends the call under way, or the next; may be called at any time.
    func cancel() { monitor.cancel() }

    /// Makes memory to lend; the caller can no longer use that of the same purpose before.
    func lend(_ purpose: String) -> Lent {
        let new = Lent()
        lent[purpose] = new
        return new
    }
}

/// A reward function of the caller: called once at a time, and not after its release.
private final class Callback: @unchecked Sendable {
    private var callback: dag_callback?
    /// The trainer whose call the function belongs to.
    private let owner: UnsafeRawPointer
    private let use = NSLock()

    init(_ callback: dag_callback, of owner: UnsafeRawPointer) {
        self.callback = callback
        self.owner = owner
    }

    func score(
        _ batch: UnsafePointer<dag_reward_batch>, _ result: UnsafePointer<dag_reward_result>,
        _ error: UnsafeMutablePointer<dag_reward_error>
    ) -> Int32 {
        use.withLock {
            // A cancelled call may leave a thread that arrives here after the release.
            guard var callback else { return Int32(DAG_REWARD_INTERNAL) }
            let outer = guard_set_inside(owner)
            defer { _ = guard_set_inside(outer) }
            return guard_score(&callback, batch, result, error)
        }
    }

    /// Releases the callback's context as soon as the function has returned.
    func release() {
        use.withLock { if var released = callback.take() { guard_release(&released) } }
    }
}

/// Memory that the caller of the API borrows, freed with the object.
final class Lent {
    private var blocks: [UnsafeMutableRawPointer] = []
    private var kept: [Any] = []

    deinit { for block in blocks { block.deallocate() } }

    func copy<Element: BitwiseCopyable>(_ elements: [Element]) -> UnsafePointer<Element> {
        let block = UnsafeMutablePointer<Element>.allocate(capacity: max(1, elements.count))
        block.initialize(from: elements, count: elements.count)
        blocks.append(UnsafeMutableRawPointer(block))
        return UnsafePointer(block)
    }

    func copy(_ text: String) -> UnsafePointer<CChar> { copy(Array(text.utf8CString)) }

    func copy(_ texts: [String]) -> UnsafePointer<dag_reward_text> {
        copy(texts.map { dag_reward_text(data: copy($0), size: $0.utf8.count) })
    }

    /// Lends the pixels without a copy: an array that is kept and not changed stays in its place.
    func pixels(of images: ImageBatch) -> UnsafePointer<UInt8> {
        kept.append(images)
        return images.withUnsafeBytes { $0.baseAddress!.assumingMemoryBound(to: UInt8.self) }
    }
}
