import CWorker
import Foundation
import Rewards

/// Another process of this program, in a process group of its own, which ends with this one.
final class CheckProcess {
    let output: Capture
    let errors: Capture
    private let group: ChildGroup

    /// - Throws: `RewardError` if it cannot be started.
    init(_ arguments: [String]) throws {
        output = try Capture()
        errors = try Capture()
        var files = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&files)
        posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_adddup2(&files, output.descriptor, STDOUT_FILENO)
        posix_spawn_file_actions_adddup2(&files, errors.descriptor, STDERR_FILENO)
        let host = dag_worker_watch(getpid())
        defer { close(host) }
        posix_spawn_file_actions_adddup2(&files, host, Int32(DAG_WORKER_HOST))
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP))
        let environment = ProcessInfo.processInfo.environment.merging(["SWIFT_BACKTRACE": "enable=no"]) { _, own in own }
        let argv = (["dag-reward"] + arguments).map { strdup($0) } + [nil]
        let envp = environment.map { strdup("\($0)=\($1)") } + [nil]
        defer {
            posix_spawn_file_actions_destroy(&files)
            posix_spawnattr_destroy(&attributes)
            for text in argv + envp { free(text) }
        }
        var pid: pid_t = 0
        let failure = posix_spawn(&pid, "/proc/self/exe", &files, &attributes, argv, envp)
        guard failure == 0 else { throw RewardError("a check cannot be started: \(String(cString: strerror(failure)))") }
        group = try ChildGroup(pid)
    }

    /// Waits for the end of the process, then kills what is left of its group. To be called once.
    /// - Parameter seconds: the time after which the process is killed too.
    /// - Returns: its wait status; nil if it took longer.
    func wait(_ seconds: Double) -> Int32? {
        _ = group.hasEnded(within: seconds)
        return if case .itself(let status) = group.end() { status } else { nil }
    }
}

/// The output of a process, in a file without a name: unlike a pipe it can be read while another process
/// still has it open.
final class Capture {
    let descriptor: Int32

    /// - Throws: `RewardError` if the file cannot be made.
    init() throws {
        var path = Array(FileManager.default.temporaryDirectory.appendingPathComponent("dag-reward-XXXXXX").path.utf8CString)
        descriptor = mkstemp(&path)
        guard descriptor >= 0 else { throw RewardError("no temporary file for a check: \(String(cString: strerror(errno)))") }
        unlink(path)
        _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
    }

    deinit { close(descriptor) }

    /// Returns its last bytes as text.
    func tail(_ count: Int = 1 << 20) -> String {
        let end = Int(lseek(descriptor, 0, SEEK_END))
        var bytes = [UInt8](repeating: 0, count: min(count, end))
        let got = pread(descriptor, &bytes, bytes.count, end - bytes.count)
        return String(decoding: bytes.prefix(max(0, got)), as: UTF8.self)
    }
}
