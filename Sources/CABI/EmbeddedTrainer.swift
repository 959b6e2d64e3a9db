import CDAGCore
import CGuard
import DAGCore
import Foundation
import Images
import Rewards

/// What a handle of the API stands for: a run, its trainer once started, and what was lent to the caller.
final class EmbeddedTrainer: @unchecked Sendable {
    /// Changed only before start.
    private(set) var run: TrainingRun
    private var rewards: [(RewardSpecification, any Reward)] = []
    /// Tells the owners of callbacks' contexts that these are needed no more.
    private var releases: [() -> Void] = []
    private var isClosed = false
    private var observer: dag_observer?
    /// What an observer threw.
    private var observerFailure: String?
    /// Of the newest optimiser step: the line of metrics.jsonl.
    private var metrics: String?
    /// What the caller borrows, by what it was lent for.
    private var lent: [String: Lent] = [:]

    private let use = NSLock()
    /// What another thread's `cancel` needs: the trainer, or that it came before there was one.
    private var cancellation: (trainer: Trainer?, isAsked: Bool) = (nil, false)
    private let cancelling = NSLock()
    private(set) var trainer: Trainer?

    init(_ run: TrainingRun) { self.run = run }

    /// Keeps others out while `body` runs. Throws `DAG_BUSY` if another call, or the caller's own callback, is at work.
    func exclusively(_ body: () throws -> Void) throws {
        guard guard_inside() != identity, use.try() else {
            throw Refusal(DAG_BUSY, "the trainer is busy with another call; from a callback only dag_trainer_cancel may be called")
        }
        defer { use.unlock() }
        guard !isClosed else { throw Refusal.destroyed }
        try body()
    }

    /// Ends it for good: no function of the caller's is called any more when this returns, and their contexts are released.
    func close() {
        isClosed = true
        trainer?.abandonScores()
        cancelling.withLock { cancellation = (nil, false) }
        (trainer, rewards) = (nil, [])
        for release in releases { release() }
    }

    private var identity: UnsafeRawPointer { UnsafeRawPointer(Unmanaged.passUnretained(self).toOpaque()) }

    /// The trainer; throws `DAG_ORDER` before start.
    func started() throws -> Trainer {
        guard let trainer else { throw Refusal(DAG_ORDER, "the trainer is not started: call dag_trainer_start first") }
        return trainer
    }

    /// Works with the trainer. If it was cancelled in the meantime, that is said now and not to the next call.
    func work<Value>(_ body: (Trainer) throws -> Value) throws -> Value {
        let trainer = try started()
        do {
            let value = try body(trainer)
            try trainer.checkCancellation()
            return value
        } catch let cancelled as Cancelled {
            if let reason = observerFailure.take() { throw Refusal(DAG_CANCELLED, "cancelled by an observer: \(reason)") }
            throw cancelled
        }
    }

    /// The newest optimiser step's line of metrics.jsonl; throws `DAG_ORDER` before the first.
    func newestMetrics() throws -> String {
        guard let metrics else { throw Refusal(DAG_ORDER, "there was no optimiser step yet") }
        return metrics
    }

    /// Throws `DAG_ORDER` after start.
    private func checkNotStarted() throws {
        guard trainer == nil else { throw Refusal(DAG_ORDER, "rewards can be added before dag_trainer_start only") }
    }

    func addPlugin(_ specification: String) throws {
        try checkNotStarted()
        _ = try RewardSpecification(specification).path()
        run.configuration.rewardPlugin.append(specification)
    }

    func add(_ callback: dag_callback) throws {
        try checkNotStarted()
        guard callback.score != nil else { throw Refusal.null("callback->score") }
        nonisolated(unsafe) var callback = callback
        let owner = identity
        let reward = try EmbeddedReward(callback) { batch, result, error in
            let outer = guard_set_inside(owner)
            defer { _ = guard_set_inside(outer) }
            return guard_score(&callback, batch, result, error)
        }
        guard !rewards.contains(where: { $0.1.name == reward.name }) else {
            throw Refusal(DAG_INVALID, "there is a callback \(reward.name) already; give each a name of its own")
        }
        releases.append { guard_release(&callback) }
        rewards.append((reward.specification, reward))
    }

    func observe(_ observer: dag_observer?) { self.observer = observer }

    func start() throws {
        guard trainer == nil else { throw Refusal(DAG_ORDER, "the trainer is started already") }
        let made: Trainer
        do {
            made = try run.prepare(rewards: rewards) { [unowned self] in !cancelling.withLock { cancellation.isAsked } }
        } catch let error as RewardError {
            let isCancelled = cancelling.withLock { exchange(&cancellation.isAsked, with: false) }
            throw isCancelled ? Cancelled() : error
        }
        cancelling.withLock {
            if cancellation.isAsked { made.cancel() }
            cancellation = (made, false)
        }
        made.onStep = { [unowned self, unowned made] step in
            metrics = (try? step.json()).map { String(decoding: $0, as: UTF8.self).trimmingCharacters(in: .newlines) }
            notify(made) { guard_step($0, metrics, $1, $2) }
        }
        made.onProgress = { [unowned self, unowned made] phase, done, total in
            let phase =
                switch phase {
                case .sampling: DAG_SAMPLING
                case .training: DAG_TRAINING
                case .evaluating: DAG_EVALUATING
                }
            notify(made) { guard_progress($0, Int32(phase), UInt64(done), UInt64(total), $1, $2) }
        }
        func log(_ level: Int) -> (String) -> Void {
            { [unowned self, unowned made] line in notify(made) { guard_log($0, Int32(level), line, $1, $2) } }
        }
        (made.onNote, made.onWarning) = (log(DAG_LOG_NOTE), log(DAG_LOG_WARNING))
        trainer = made
        do {
            made.onNote(made.summary)
            try work { try $0.begin() }
        } catch {
            trainer = nil
            cancelling.withLock { cancellation = (nil, false) }
            throw error
        }
    }

    /// Calls a function of the observer's, which cancels by returning something other than 0.
    private func notify(
        _ trainer: Trainer, _ function: (UnsafePointer<dag_observer>, UnsafeMutablePointer<CChar>, Int) -> Int32
    ) {
        guard var observer else { return }
        var message = [CChar](repeating: 0, count: 512)
        let outer = guard_set_inside(identity)
        let answer = function(&observer, &message, message.count)
        _ = guard_set_inside(outer)
        guard answer != 0 else { return }
        if message[0] != 0 { observerFailure = message.withUnsafeBufferPointer { String(cString: $0.baseAddress!) } }
        trainer.cancel()
    }

    /// May be called at any time.
    func cancel() {
        cancelling.withLock {
            if let trainer = cancellation.trainer { trainer.cancel() } else { cancellation.isAsked = true }
        }
    }

    /// Lends texts, numbers or pictures, in place of what was lent for the same purpose before.
    func lend(_ purpose: String) -> Lent {
        let new = Lent()
        lent[purpose] = new
        return new
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

    /// The pixels themselves: an array that nobody changes stays where it is.
    func pixels(of images: ImageBatch) -> UnsafePointer<UInt8> {
        kept.append(images)
        return images.withUnsafeBytes { $0.baseAddress!.assumingMemoryBound(to: UInt8.self) }
    }
}
