import Foundation
import Images
import Support

/// Worker processes that serve one library. Each has its own copy of whatever the reward loads.
final class WorkerPool: RewardFactory, @unchecked Sendable {
    let description: RewardDescription
    private let program: WorkerProcess.Program
    private let count: Int
    private let monitor: Monitor
    private let lock = NSLock()
    /// The process that said what the library is, until a reward is made in it.
    private var idle: WorkerProcess?

    /// Asks a first process what the library is. Throws `RewardError` if it cannot say.
    /// - Parameters:
    ///   - name: the library's file, for messages.
    ///   - monitor: may cancel the waiting for a process.
    init(name: String, program: WorkerProcess.Program, count: Int, timeout: Double, monitor: Monitor) throws {
        (self.program, self.count, self.monitor) = (program, count, monitor)
        do {
            let process = try WorkerProcess(program)
            guard
                case .description(let description, let version) = try process.call(
                    .describe, timeout: timeout, isWanted: { !monitor.isCancelled }
                ).0
            else { throw WorkerProcess.Ended(reason: "answered something else") }
            guard version == WorkerProtocol.version else {
                throw RewardError(
                    "\(program.path) is of another release than this program: it speaks version \(version) and not "
                        + "\(WorkerProtocol.version); install both anew")
            }
            try description.checkNames("reward \(name)")
            (self.description, idle) = (description, process)
        } catch let ended as WorkerProcess.Ended {
            throw RewardError("reward \(name) cannot be opened: its worker \(ended.reason)")
        }
    }

    func make(options: [String: String], device: String, timeout: Double?) throws -> any Reward {
        try description.check(options: options, device: device)
        let serving = ServedReward(
            name: description.name, objectives: description.objectives.count, program: program,
            request: .make(options: options, device: device, timeout: timeout),
            timeout: timeout ?? .infinity)
        nonisolated(unsafe) let first = lock.withLock { idle.take() }
        let workers = concurrently(count) { [monitor] index in
            Result { try RewardWorker(serving, in: index == 0 ? first : nil) { !monitor.isCancelled } }
        }
        return WorkerReward(description, workers: try workers.map { try $0.get() })
    }
}

/// A reward in processes of its own, among which a batch is divided.
public final class WorkerReward: Reward {
    /// Name in logs and messages.
    public let name: String
    /// What it scores, in the order of the scores.
    public let objectives: [RewardObjective]
    /// Of code, weights and settings.
    public let fingerprint: String
    /// Whether equal pictures get equal scores.
    public let isDeterministic: Bool
    /// The numbers of its processes.
    public var processes: [pid_t] { workers.compactMap(\.pid) }
    private let workers: [RewardWorker]

    fileprivate init(_ description: RewardDescription, workers: [RewardWorker]) {
        (name, objectives, isDeterministic) = (description.name, description.objectives, description.isDeterministic)
        fingerprint = workers[0].fingerprint
        self.workers = workers
    }

    // All end at the same time, and not one after the other.
    deinit { for worker in workers { worker.dismiss() } }

    /// Divides a batch among the processes.
    public func result(_ batch: RewardBatch) throws -> RewardResult {
        guard workers.count > 1, batch.count > 1 else { return try workers[0].result(batch) }
        let parts = min(workers.count, batch.count)
        let ranges = (0..<parts).map { batch.count * $0 / parts..<batch.count * ($0 + 1) / parts }
        let results = concurrently(parts) { part in
            Result { try self.workers[part].result(batch.part(ranges[part])) }
        }
        return RewardResult(concatenating: try results.map { try $0.get() }, counts: ranges.map(\.count))
    }
}

/// What a worker serves.
private struct ServedReward: Sendable {
    let name: String
    /// How many numbers it gives for a sample.
    let objectives: Int
    let program: WorkerProcess.Program
    /// Has the reward made.
    let request: WorkerRequest
    let timeout: Double

    /// Has it made in a process, a new one if none is given. Returns its fingerprint too. Throws `RewardError`, or `WorkerProcess.Ended`.
    func start(in process: WorkerProcess? = nil, _ isWanted: @escaping @Sendable () -> Bool) throws -> (WorkerProcess, String) {
        let process = try process ?? WorkerProcess(program)
        guard case .made(let fingerprint) = try process.call(request, timeout: timeout, isWanted: isWanted).0 else {
            throw WorkerProcess.Ended(reason: "answered something else")
        }
        return (process, fingerprint)
    }
}

/// One process with the model loaded; another takes its place when it dies.
private final class RewardWorker: @unchecked Sendable {
    let fingerprint: String
    private let served: ServedReward
    private let lock = NSLock()
    private var process: WorkerProcess?

    /// Why there is no process, as the end of "a new process could not be made: ...".
    private struct Irreplaceable: Error { let reason: String }

    /// Has the model loaded. Throws `RewardError`.
    /// - Parameter process: one that runs already; nil: a new one.
    init(_ served: ServedReward, in process: WorkerProcess?, _ isWanted: @escaping @Sendable () -> Bool) throws {
        self.served = served
        do {
            (self.process, fingerprint) = try served.start(in: process, isWanted)
        } catch let ended as WorkerProcess.Ended {
            throw RewardError("reward \(served.name) cannot be made: its worker \(ended.reason)")
        }
    }

    var pid: pid_t? { lock.withLock { process?.pid } }

    /// Tells the process to end.
    func dismiss() { lock.withLock { process?.dismiss() } }

    /// Scores a batch; if the process dies over it, a new one tries once more. Throws `RewardError` that tells what happened both times.
    func result(_ batch: RewardBatch) throws -> RewardResult {
        try lock.withLock {
            var ends: [String] = []
            repeat {
                do {
                    return try attempt(batch)
                } catch let ended as WorkerProcess.Ended {
                    ends.append(ended.reason)
                } catch let error as Irreplaceable {
                    let before = ends.isEmpty ? "" : "it \(ends[0]), and "
                    throw RewardError(
                        "reward \(served.name) failed on \(batch.names()): \(before)a new process could not be made: \(error.reason)")
                }
            } while ends.count < batch.attempts && batch.isWanted()
            let what =
                ends.count == 1
                ? ": it \(ends[0])"
                : ends[0] == ends[1] ? " twice: it \(ends[0])" : " twice: it \(ends[0]), and in a new process it \(ends[1])"
            throw RewardError("reward \(served.name) failed on \(batch.names())\(what)")
        }
    }

    private func attempt(_ batch: RewardBatch) throws -> RewardResult {
        let process = try process ?? successor(batch.isWanted)
        self.process = process
        do {
            try process.share(batch.images)
            let (answer, data) = try process.call(
                .score(
                    batch: .init(
                        count: batch.count, height: batch.images.height, width: batch.images.width, prompts: batch.prompts,
                        metadata: batch.metadata, ids: batch.sampleIDs, seeds: batch.seeds)), timeout: served.timeout,
                isWanted: batch.isWanted)
            guard case .scores(let reasons) = answer, data.count == 4 * batch.count * served.objectives else {
                throw WorkerProcess.Ended(reason: "answered something other than scores")
            }
            return RewardResult(values: data.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }, reasons: reasons)
        } catch let ended as WorkerProcess.Ended {
            self.process = nil
            throw ended
        }
    }

    /// A new process. Throws `Irreplaceable` if there is none, or if what it serves is no longer what the old one served.
    private func successor(_ isWanted: @escaping @Sendable () -> Bool) throws -> WorkerProcess {
        do {
            let (process, new) = try served.start(isWanted)
            guard new == fingerprint else {
                throw Irreplaceable(
                    reason: "the reward changed during the run, its new process is `\(new)`, the first was `\(fingerprint)`")
            }
            return process
        } catch let ended as WorkerProcess.Ended {
            throw Irreplaceable(reason: "it \(ended.reason)")
        } catch let error as RewardError {
            throw Irreplaceable(reason: error.description)
        }
    }
}
