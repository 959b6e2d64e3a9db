import CWorker
import Foundation
import Images
import Support

/// A process that serves a reward. One thread at a time may use it.
final class WorkerProcess {
    /// A command line.
    struct Program: Sendable {
        /// Looked up in PATH if it has no slash.
        let path: String
        let arguments: [String]
    }

    /// The reason why a process can no longer be used, as the end of "the worker ...".
    struct Ended: Error {
        let reason: String
    }

    /// Seconds that a process has, when it is no longer needed, to destroy its reward and print what is left
    /// to print.
    private static let farewell = 1.0

    private let group: ChildGroup
    private let connection: WorkerConnection
    private let memory: SharedImages
    /// When the process is killed, if it was asked to exit.
    private var limit: Double?

    var pid: pid_t { group.pid }

    /// Starts the program.
    /// - Throws: `RewardError` if that is impossible.
    init(_ program: Program) throws {
        memory = try SharedImages()
        var sockets: [Int32] = [-1, -1]
        guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &sockets) == 0 else {
            throw RewardError("no socket for a worker process: \(String(cString: strerror(errno)))")
        }
        defer { close(sockets[1]) }
        do { group = try Self.start(program, sockets[1], memory) } catch {
            close(sockets[0])
            throw error
        }
        _ = fcntl(sockets[0], F_SETFL, O_NONBLOCK)
        connection = WorkerConnection(socket: sockets[0], peer: group.watch)
    }

    private static func start(_ program: Program, _ socket: Int32, _ memory: SharedImages) throws -> ChildGroup {
        let arguments = ([program.path] + program.arguments).map { strdup($0) } + [nil]
        defer { for argument in arguments { free(argument) } }
        var pid: pid_t = 0
        let failure = dag_worker_spawn(arguments, socket, memory.descriptor, &pid)
        guard failure == 0 else {
            if pid > 0 { waitpid(pid, nil, 0) }
            throw RewardError("\(program.path) cannot be started: \(String(cString: strerror(failure)))")
        }
        return try ChildGroup(pid)
    }

    deinit {
        dismiss()
        _ = group.hasEnded(within: max(0, (limit ?? 0) - monotonicSeconds()))
        group.end()
        close(connection.socket)
    }

    /// Asks the process to exit; deinit waits a moment for it.
    func dismiss() {
        guard limit == nil else { return }
        limit = monotonicSeconds() + Self.farewell
        shutdown(connection.socket, Int32(SHUT_RDWR))
    }

    /// Shows images to the process, in place of those before.
    /// - Throws: `RewardError` if there is no memory for them.
    func share(_ images: ImageBatch) throws { try memory.write(images) }

    /// Sends a request and waits for the answer.
    /// - Parameters:
    ///   - timeout: seconds that the answer may take.
    ///   - isWanted: asked ten times a second while waiting.
    /// - Throws: `RewardError` if the reward reports an error, `Ended` if the process can no longer be used:
    ///   it is killed then.
    func call(_ request: WorkerRequest, timeout: Double, isWanted: @escaping @Sendable () -> Bool) throws -> (WorkerAnswer, Data) {
        // A reward that gives up by itself at the deadline has this long to say so.
        let patience = Patience(deadline: monotonicSeconds() + timeout + min(1, timeout / 4), isWanted: isWanted)
        do {
            try connection.send(request, .init(start: nil, count: 0), patience)
            let (answer, data) = try connection.receive(WorkerAnswer.self, patience)
            if case .error(let text) = answer { throw RewardError(text) }
            return (answer, data)
        } catch let problem as WorkerConnection.Problem {
            throw Ended(reason: reason(problem, timeout))
        }
    }

    /// Ends the process, and says why.
    private func reason(_ problem: WorkerConnection.Problem, _ timeout: Double) -> String {
        // A process that is gone may need a moment to be seen as such; one that only closed its end may stay
        // for ever.
        if case .closed = problem { _ = group.hasEnded(within: 0.2) }
        let ending = group.end()
        switch problem {
        case .timedOut: return "did not answer within \(timeout.formatted()) s (timeout=SECONDS allows more) and was killed"
        case .unwanted: return "was killed because its answer is no longer wanted"
        case .garbled: return "sent something other than an answer and was killed"
        case .closed, .lost: break
        }
        switch ending {
        case .unknown: return "ended in an unknown way: this program ignores SIGCHLD or waits for children that are not its own"
        case .itself(let status) where status != Int32(DAG_WORKER_CUT_OFF) << 8:
            let signal = status & 0x7f
            return signal == 0 ? "ended itself with exit code \(status >> 8 & 0xff)" : "was ended by \(Self.name(ofSignal: signal))"
        case .itself, .killed: return "lost its connection to the host: something closed descriptors that are not its own"
        }
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
