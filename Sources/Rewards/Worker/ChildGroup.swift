import CWorker
import Foundation
import Support

/// A child process at the head of a group of its own. The processes that it starts belong to the group and
/// end with it.
package final class ChildGroup {
    /// How a process came to its end.
    package enum Ending: Equatable, Sendable {
        /// By itself, with this wait status.
        case itself(status: Int32)
        /// By itself, and its status is lost: this program ignores SIGCHLD, or something else in it waits for
        /// children.
        case unknown
        /// It was killed here.
        case killed
    }

    /// The id of the process and of its group.
    package let pid: pid_t
    /// Readable when the process has ended.
    let watch: Int32
    private var ending: Ending?

    /// Takes charge of a process that was just started.
    /// - Throws: `RewardError` if it cannot be watched; it is killed then.
    package init(_ pid: pid_t) throws {
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

    /// Waits until the process has ended.
    /// - Parameter seconds: the longest time to wait.
    /// - Returns: whether it has ended.
    package func hasEnded(within seconds: Double) -> Bool {
        let limit = monotonicSeconds() + seconds
        var process = pollfd(fd: watch, events: Int16(POLLIN), revents: 0)
        repeat {
            // One more millisecond: a wait that is rounded down to 0 would spin.
            poll(&process, 1, Int32(min(max(0, limit - monotonicSeconds()) * 1000 + 1, 1e9)))
        } while process.revents == 0 && monotonicSeconds() < limit
        return process.revents != 0
    }

    /// Kills what is left of the group.
    /// - Returns: how the process ended.
    @discardableResult package func end() -> Ending {
        if let ending { return ending }
        let hadEnded = hasEnded(within: 0)
        let now = takeDown(hadEnded)
        ending = now
        return now
    }

    private func takeDown(_ hadEnded: Bool) -> Ending {
        // WNOWAIT keeps the process in the process table until the group is killed, so that its id is not
        // given to another process. If it has been reaped already, the id may be another's.
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
