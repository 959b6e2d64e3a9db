import CWorker
import Foundation
import Images
import Support

/// The other side of `WorkerProcess`: serves one library to the host that started this process.
package enum WorkerServer {
    /// Prepares a process that may end at any time and is the head of a process group: what a reward prints
    /// is written line by line, and the group ends with the host.
    package static func prepare() {
        dag_worker_end_with_host()
        dag_worker_print_lines()
    }

    /// Answers until the host closes the connection, then destroys the reward and ends the process.
    /// - Parameters:
    ///   - callingExitHandlers: whether functions that the library registered with `atexit` are called at the
    ///     end.
    ///   - open: opens the library.
    /// - Returns: an exit code if the connection is lost.
    package static func run(callingExitHandlers: Bool, open: () throws -> any RewardFactory) -> Int32 {
        prepare()
        // Children of the plugin must not hold the host's connection open.
        for descriptor in [Int32(DAG_WORKER_SOCKET), Int32(DAG_WORKER_MEMORY)] { _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC) }
        let connection = WorkerConnection(socket: Int32(DAG_WORKER_SOCKET), peer: -1)
        let library = Result { try open() }
        var reward: (any Reward)?
        var view = ImageView()
        do {
            while true {
                let request = try connection.receive(WorkerRequest.self).0
                var values: [Float] = []
                var answer: WorkerAnswer
                do {
                    switch request {
                    case .describe: answer = .description(try library.get().description, version: WorkerProtocol.version)
                    case .make(let options, let device, let timeout):
                        let made = try library.get().make(options: options, device: device, timeout: timeout)
                        reward = made
                        answer = .made(fingerprint: made.fingerprint)
                    case .score(let batch):
                        guard let reward else { throw RewardError("asked for scores before a reward was made") }
                        let result = try reward.result(view.batch(batch))
                        values = result.values
                        answer = .scores(reasons: result.reasons)
                    }
                } catch {
                    answer = .error("\(error)")
                }
                try values.withUnsafeBytes { try connection.send(answer, $0) }
            }
        } catch WorkerConnection.Problem.closed {
            reward = nil
            dag_worker_leave(callingExitHandlers ? 1 : 0)
        } catch {
            return Int32(DAG_WORKER_CUT_OFF)
        }
    }
}

/// The shared memory as this process sees it: read-only, so that a plugin that writes to its input is caught
/// in the act.
private struct ImageView {
    private var size = 0
    private var base: UnsafeRawPointer?

    mutating func batch(_ batch: WorkerRequest.Batch) throws -> RewardBatch {
        let needed = batch.count * batch.height * batch.width * 3
        if needed > size {
            if let base { munmap(UnsafeMutableRawPointer(mutating: base), size) }
            base = nil
            size = 0
            guard let mapped = mmap(nil, needed, PROT_READ, MAP_SHARED, Int32(DAG_WORKER_MEMORY), 0), mapped != MAP_FAILED else {
                throw RewardError("cannot map the images' shared memory: \(String(cString: strerror(errno)))")
            }
            base = UnsafeRawPointer(mapped)
            size = needed
        }
        return try RewardBatch(
            images: ImageBatch(
                borrowing: UnsafeRawBufferPointer(start: base, count: needed), count: batch.count, height: batch.height, width: batch.width),
            prompts: zip(batch.prompts, batch.metadata).map { Prompt($0, metadata: $1) }, sampleIDs: batch.ids, seeds: batch.seeds)
    }
}
