import CWorker
import Foundation
import Support

/// A child process at the head of a group of its own. What it starts is in that group too and ends with it.
public final class ChildGroup {
    /// How a process came to its end.
    public enum Ending: Equatable, Sendable {
        /// By itself, with this wait status.
        case itself(status: Int32)
        /// By itself, and its status is lost: this program ignores SIGCHLD, or something else in it waits for children.
        case unknown
        /// It was killed here.
        case killed
    }

    /// Its number, and that of its group.
    public let pid: pid_t
    /// Readable when the process has ended.
    let watch: Int32
    private var ending: Ending?

    /// Takes charge of a process that was just started. Throws `RewardError` if it cannot be watched; it is killed then.
    public init(_ pid: pid_t) throws {
        self.pid = pid
        watch = dag_worker_watch(pid)
        guard watch >= 0 else {
            let reason = String(cString: strerror(errno))
            kill(pid, SIGKILL)
            waitpid(pid, nil, 0)
            throw RewardError("a process cannot be watched: \(reason)")
        }
    }

    deinit {
        end()
        close(watch)
    }

    /// Waits until it has ended, so many seconds at most.
    public func hasEnded(within seconds: Double) -> Bool {
        let limit = monotonicSeconds() + seconds
        var process = pollfd(fd: watch, events: Int16(POLLIN), revents: 0)
        repeat {
            // One more millisecond: a time that is rounded down would be waited for in circles.
            poll(&process, 1, Int32(min(max(0, limit - monotonicSeconds()) * 1000 + 1, 1e9)))
        } while process.revents == 0 && monotonicSeconds() < limit
        return process.revents != 0
    }

    /// Kills what there is of the group, and takes note of the process's end.
    @discardableResult public func end() -> Ending {
        if let ending { return ending }
        let hadEnded = hasEnded(within: 0)
        let now = takeDown(hadEnded)
        ending = now
        return now
    }

    private func takeDown(_ hadEnded: Bool) -> Ending {
        // Its place in the process table is kept until the group is killed, so that its number is given to no others. If that is lost
        // already, the number may be another's.
        var information = siginfo_t()
        guard waitid(P_PID, id_t(pid), &information, WEXITED | WNOHANG | WNOWAIT) == 0 else { return .unknown }
        kill(-pid, SIGKILL)
        kill(pid, SIGKILL)  // it may have gone to another group
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0 {
            guard errno == EINTR else { return hadEnded ? .unknown : .killed }
        }
        return hadEnded ? .itself(status: status) : .killed
    }
}
