/// Everything that it takes to start a worker process with a reward in it, the first time and after a crash.
struct WorkerRecipe: Sendable {
    /// The reward's name, for messages.
    let name: String
    /// How many scores it gives each sample.
    let objectives: Int
    let program: WorkerProcess.Program
    /// The request that makes the reward.
    let request: WorkerRequest
    /// Seconds that an answer may take.
    let timeout: Double

    /// Makes the reward.
    /// - Parameter process: where; nil: in a new process.
    /// - Returns: the process and the reward's fingerprint.
    /// - Throws: `RewardError`, or `WorkerProcess.Ended`.
    func start(in process: WorkerProcess? = nil, _ isWanted: @escaping @Sendable () -> Bool) throws -> (WorkerProcess, String) {
        let process = try process ?? WorkerProcess(program)
        guard case .made(let fingerprint) = try process.call(request, timeout: timeout, isWanted: isWanted).0 else {
            throw WorkerProcess.Ended(reason: "answered something else")
        }
        return (process, fingerprint)
    }
}
