import Foundation

/// A worker process with the model loaded, and another in its place when it dies.
final class RestartingWorker: @unchecked Sendable {
    let fingerprint: String
    private let recipe: WorkerRecipe
    private let lock = NSLock()
    private var process: WorkerProcess?

    /// The reason why there is no process, as the end of "a new process could not be made: ...".
    private struct Irreplaceable: Error { let reason: String }

    /// Loads the model.
    /// - Parameter process: one that runs already; nil: a new one.
    /// - Throws: `RewardError`.
    init(_ recipe: WorkerRecipe, in process: WorkerProcess?, _ isWanted: @escaping @Sendable () -> Bool) throws {
        self.recipe = recipe
        do {
            (self.process, fingerprint) = try recipe.start(in: process, isWanted)
        } catch let ended as WorkerProcess.Ended {
            throw RewardError("reward \(recipe.name) cannot be made: its worker \(ended.reason)")
        }
    }

    var pid: pid_t? { lock.withLock { process?.pid } }

    /// Asks the process to exit.
    func dismiss() { lock.withLock { process?.dismiss() } }

    /// Scores a batch; if the process dies over it, a new one tries once more.
    /// - Throws: `RewardError` that tells what happened both times.
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
                        "reward \(recipe.name) failed on \(batch.names()): \(before)a new process could not be made: \(error.reason)")
                }
            } while ends.count < batch.attempts && batch.isWanted()
            throw RewardError("reward \(recipe.name) failed on \(batch.names())\(Self.story(ends))")
        }
    }

    /// Tells how one or two processes ended.
    private static func story(_ ends: [String]) -> String {
        if ends.count == 1 { return ": it \(ends[0])" }
        if ends[0] == ends[1] { return " twice: it \(ends[0])" }
        return " twice: it \(ends[0]), and in a new process it \(ends[1])"
    }

    /// The most bytes of a batch's prompts and metadata, which are one message; as JSON they may be six times as many.
    private static let largestTexts = 1 << 27

    private func attempt(_ batch: RewardBatch) throws -> RewardResult {
        let texts = batch.prompts.reduce(0) { $0 + $1.text.utf8.count + $1.metadata.utf8.count }
        guard texts <= Self.largestTexts else {
            throw RewardError(
                "reward \(recipe.name) failed on \(batch.names()): their prompts and metadata have \(texts) bytes, of \(Self.largestTexts) "
                    + "at most; put what is large into files, and their paths into the metadata")
        }
        let process = try process ?? successor(batch.isWanted)
        self.process = process
        do {
            try process.share(batch.images)
            let request = WorkerRequest.score(
                batch: .init(
                    count: batch.count, height: batch.images.height, width: batch.images.width, prompts: batch.prompts.map(\.text),
                    metadata: batch.prompts.map(\.metadata), ids: batch.sampleIDs, seeds: batch.seeds))
            let (answer, data) = try process.call(request, timeout: recipe.timeout, isWanted: batch.isWanted)
            guard let result = answer.result(data, count: batch.count, objectives: recipe.objectives) else {
                throw WorkerProcess.Ended(reason: "answered something other than scores")
            }
            return result
        } catch let ended as WorkerProcess.Ended {
            self.process = nil
            throw ended
        }
    }

    /// Starts a new process.
    /// - Throws: `Irreplaceable` if that fails, or if the new process serves another reward than the old one
    ///   did.
    private func successor(_ isWanted: @escaping @Sendable () -> Bool) throws -> WorkerProcess {
        do {
            let (process, new) = try recipe.start(isWanted)
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
