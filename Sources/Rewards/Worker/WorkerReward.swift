import Foundation
import Images

/// Worker processes that serve one library. Each has its own copy of whatever the reward loads.
final class WorkerPool: RewardFactory {
    let description: RewardDescription
    /// The library's file, for messages.
    private let name: String
    private let program: WorkerProcess.Program
    private let count: Int

    /// Asks a first process what the library is. Throws `RewardError` if it cannot say.
    init(name: String, program: WorkerProcess.Program, count: Int, timeout: Double) throws {
        (self.name, self.program, self.count) = (name, program, count)
        do {
            let answer = try WorkerProcess(program, memory: SharedPictures()).call(.describe, timeout: timeout).0
            guard case .description(let description) = answer else { throw WorkerProcess.Ended(reason: "answered something else") }
            try description.checkKeys()
            self.description = description
        } catch let ended as WorkerProcess.Ended {
            throw RewardError("reward \(name) cannot be opened: its worker \(ended.reason)")
        }
    }

    func make(options: [String: String], device: String, timeout: Double?) throws -> any Reward {
        try description.check(options: options, device: device)
        let request = WorkerRequest.make(options: options, device: device, timeout: timeout)
        let timeout = timeout ?? .infinity
        let workers = try (0..<count).map { _ in
            try RewardWorker(name: description.name, program: program, request: request, timeout: timeout)
        }
        return WorkerReward(description, workers: workers)
    }
}

/// A reward in processes of its own, among which a batch is divided.
final class WorkerReward: Reward {
    let name: String
    let objectives: [RewardObjective]
    let fingerprint: String
    let isDeterministic: Bool
    private let workers: [RewardWorker]

    init(_ description: RewardDescription, workers: [RewardWorker]) {
        (name, objectives, isDeterministic) = (description.name, description.objectives, description.isDeterministic)
        fingerprint = workers[0].fingerprint
        self.workers = workers
    }

    func score(_ batch: RewardBatch) throws -> RewardScores {
        guard workers.count > 1, batch.count > 1 else { return try workers[0].score(batch, of: self) }
        let parts = min(workers.count, batch.count)
        let ranges = (0..<parts).map { batch.count * $0 / parts..<batch.count * ($0 + 1) / parts }
        let results = concurrently(parts) { part in
            Result { try self.workers[part].score(batch.part(ranges[part]), of: self) }
        }
        return RewardScores(concatenating: try results.map { try $0.get() }, counts: ranges.map(\.count))
    }
}

/// Runs `body` for 0..<count, each on a thread of its own, and waits for all. Nothing holds `body`, or what it holds, any more afterwards.
func concurrently<Value>(_ count: Int, _ body: @escaping @Sendable (Int) -> Value) -> [Value] {
    let shared = ConcurrentCalls(count, body)
    let group = DispatchGroup()
    for index in 0..<count {
        group.enter()
        // A thread lets go of its block a moment after it has run.
        Thread.detachNewThread {
            shared.call(index)
            group.leave()
        }
    }
    group.wait()
    return shared.finish()
}

/// What the threads of `concurrently` share.
private final class ConcurrentCalls<Value>: @unchecked Sendable {
    private var body: ((Int) -> Value)?
    private var values: [Value?]
    private let lock = NSLock()

    init(_ count: Int, _ body: @escaping (Int) -> Value) { (self.body, values) = (body, Array(repeating: nil, count: count)) }

    func call(_ index: Int) {
        guard let value = body?(index) else { return }
        lock.withLock { values[index] = value }
    }

    func finish() -> [Value] {
        defer { (body, values) = (nil, []) }
        return values.map { $0! }
    }
}

/// One process with the model loaded; another takes its place when it dies.
final class RewardWorker: @unchecked Sendable {
    let fingerprint: String
    private let name: String
    private let program: WorkerProcess.Program
    private let request: WorkerRequest
    private let timeout: Double
    private let memory: SharedPictures
    private let lock = NSLock()
    private var process: WorkerProcess?

    /// Starts a process and has it load the model. Throws `RewardError`.
    init(name: String, program: WorkerProcess.Program, request: WorkerRequest, timeout: Double) throws {
        (self.name, self.program, self.request, self.timeout) = (name, program, request, timeout)
        memory = try SharedPictures()
        do {
            (process, fingerprint) = try Self.start(program, memory, request, timeout)
        } catch let ended as WorkerProcess.Ended {
            throw RewardError("reward \(name) cannot be made: its worker \(ended.reason)")
        }
    }

    /// Scores a batch; if the process dies over it, a new one tries once more. Throws `RewardError` that tells what happened both times.
    func score(_ batch: RewardBatch, of reward: WorkerReward) throws -> RewardScores {
        try lock.withLock {
            let first: String
            do { return try attempt(batch, of: reward) } catch let ended as WorkerProcess.Ended { first = ended.reason }
            do {
                return try attempt(batch, of: reward)
            } catch let ended as WorkerProcess.Ended {
                let both = ended.reason == first ? "twice: it \(first)" : "twice: it \(first), and in a new process it \(ended.reason)"
                throw RewardError("reward \(name) failed on \(batch.names()) \(both)")
            }
        }
    }

    private func attempt(_ batch: RewardBatch, of reward: WorkerReward) throws -> RewardScores {
        do {
            let process = try process ?? restart()
            self.process = process
            try memory.write(batch.images)
            let (answer, data) = try process.call(
                .score(
                    batch: .init(
                        count: batch.count, height: batch.images.height, width: batch.images.width, prompts: batch.prompts,
                        metadata: batch.metadata, ids: batch.sampleIDs, seeds: batch.seeds)), timeout: timeout)
            guard case .scores(let failures) = answer, data.count % 4 == 0 else {
                throw WorkerProcess.Ended(reason: "answered something other than scores")
            }
            let values = data.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
            return try RewardScores(values, failures: failures, of: reward, for: batch)
        } catch let ended as WorkerProcess.Ended {
            process = nil
            throw ended
        }
    }

    /// A new process. Throws `RewardError` if what it serves is no longer what the old one served.
    private func restart() throws -> WorkerProcess {
        let (process, new) = try Self.start(program, memory, request, timeout)
        guard new == fingerprint else {
            throw RewardError("reward \(name) changed during the run: its new process is `\(new)`, the first was `\(fingerprint)`")
        }
        return process
    }

    private static func start(
        _ program: WorkerProcess.Program, _ memory: SharedPictures, _ request: WorkerRequest, _ timeout: Double
    ) throws -> (WorkerProcess, String) {
        let process = try WorkerProcess(program, memory: memory)
        guard case .made(let fingerprint) = try process.call(request, timeout: timeout).0 else {
            throw WorkerProcess.Ended(reason: "answered something else")
        }
        return (process, fingerprint)
    }
}
