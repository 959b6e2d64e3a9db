import CWorker
import Foundation

/// A process that serves a reward. Not for several threads at once.
final class WorkerProcess {
    /// What is run.
    struct Program: Sendable {
        /// Looked up in PATH if it has no slash.
        let path: String
        let arguments: [String]
    }

    /// What happened to a process that can no longer be used, as the end of "the worker ...".
    struct Ended: Error {
        let reason: String
    }

    private let pid: pid_t
    private let connection: WorkerConnection
    private let watch: Int32
    private var isRunning = true

    /// Starts the program. Throws `RewardError` if that is impossible.
    init(_ program: Program, memory: SharedPictures) throws {
        var sockets: [Int32] = [-1, -1]
        guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &sockets) == 0 else {
            throw RewardError("no socket for a worker process: \(String(cString: strerror(errno)))")
        }
        defer { close(sockets[1]) }
        let (failure, started) = Spawner.run { [sockets] in
            let arguments = ([program.path] + program.arguments).map { strdup($0) } + [nil]
            defer { for argument in arguments { free(argument) } }
            var pid: pid_t = 0
            return (dag_worker_spawn(arguments, sockets[1], memory.descriptor, &pid), pid)
        }
        guard failure == 0 else {
            if started > 0 { waitpid(started, nil, 0) }
            close(sockets[0])
            throw RewardError("\(program.path) cannot be started: \(String(cString: strerror(failure)))")
        }
        pid = started
        watch = dag_worker_watch(pid)
        _ = fcntl(sockets[0], F_SETFL, O_NONBLOCK)
        connection = WorkerConnection(socket: sockets[0], peer: watch)
    }

    deinit {
        end()
        close(connection.socket)
        if watch >= 0 { close(watch) }
    }

    /// Asks and waits for the answer. Throws `RewardError` if the reward says that it cannot, `Ended` if the process is of no more use: it is
    /// killed then.
    func call(_ request: WorkerRequest, timeout: Double) throws -> (WorkerAnswer, Data) {
        // A reward that gives up by itself at the deadline has this long to say so.
        let deadline = monotonicSeconds() + timeout + min(1, timeout / 4)
        do {
            try connection.send(request, until: deadline)
            let (answer, data) = try connection.receive(WorkerAnswer.self, until: deadline)
            if case .error(let text) = answer { throw RewardError(text) }
            return (answer, data)
        } catch let problem as WorkerConnection.Problem {
            throw Ended(reason: reason(problem, timeout))
        }
    }

    private func reason(_ problem: WorkerConnection.Problem, _ timeout: Double) -> String {
        switch problem {
        case .timedOut:
            end()
            return "did not answer within \(timeout.formatted()) s (timeout=SECONDS allows more) and was killed"
        case .garbled:
            end()
            return "sent something other than an answer and was killed"
        case .closed:
            // A process that is still there closed its end, and may do so for ever.
            let status = end(patience: 0.2)
            guard let status, status != Int32(DAG_WORKER_CUT_OFF) << 8 else {
                return "lost its connection to the host: something closed descriptors that are not its own"
            }
            let signal = status & 0x7f
            return signal == 0 ? "ended itself with exit code \(status >> 8 & 0xff)" : "was ended by \(Self.name(ofSignal: signal))"
        }
    }

    /// Kills the process and its children, and takes note of its end.
    /// - Parameter patience: seconds that it has to end by itself.
    /// - Returns: its wait status if it ended by itself.
    @discardableResult private func end(patience: Double = 0) -> Int32? {
        guard isRunning else { return nil }
        isRunning = false
        var information = siginfo_t()
        let limit = monotonicSeconds() + patience
        var own = false
        repeat {
            // Without taking its place in the process table away, which keeps its group's number from being given to others.
            own = waitid(P_PID, id_t(pid), &information, WEXITED | WNOHANG | WNOWAIT) == 0 && information._sifields._sigchld.si_pid == pid
            if !own, patience > 0 { usleep(1000) }
        } while !own && monotonicSeconds() < limit
        kill(-pid, SIGKILL)
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0, errno == EINTR {}
        return own ? status : nil
    }

    private static func name(ofSignal number: Int32) -> String {
        let names = [
            SIGSEGV: "SIGSEGV (bad memory access)", SIGABRT: "SIGABRT (abort, failed assertion or uncaught exception)", SIGBUS: "SIGBUS",
            SIGFPE: "SIGFPE (integer division by zero)", SIGILL: "SIGILL (trap or unknown instruction)",
            SIGKILL: "SIGKILL (perhaps for using too much memory)",
            SIGTERM: "SIGTERM", SIGPIPE: "SIGPIPE",
        ]
        return names[number] ?? "signal \(number)"
    }
}

/// The one thread that starts workers: they are tied to the life of the thread that started them, so it never ends.
private enum Spawner {
    private final class Job: @unchecked Sendable {
        let work: () -> (failure: Int32, pid: pid_t)
        var result: (failure: Int32, pid: pid_t) = (0, 0)
        let done = DispatchSemaphore(value: 0)
        init(_ work: @escaping () -> (failure: Int32, pid: pid_t)) { self.work = work }
    }

    private nonisolated(unsafe) static var jobs: [Job] = []
    private static let lock = NSLock()
    private static let arrived = DispatchSemaphore(value: 0)
    private nonisolated(unsafe) static let thread: Thread = {
        let thread = Thread {
            while true {
                arrived.wait()
                let job = lock.withLock { jobs.removeFirst() }
                job.result = job.work()
                job.done.signal()
            }
        }
        thread.name = "dag.workers"
        thread.start()
        return thread
    }()

    static func run(_ work: @escaping () -> (failure: Int32, pid: pid_t)) -> (failure: Int32, pid: pid_t) {
        _ = thread
        let job = Job(work)
        lock.withLock { jobs.append(job) }
        arrived.signal()
        job.done.wait()
        return job.result
    }
}
