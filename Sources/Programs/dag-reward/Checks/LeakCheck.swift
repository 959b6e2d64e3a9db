import Foundation
import Support

/// Finds out whether an action that is repeated leaks memory or descriptors.
enum LeakCheck {
    /// Repeats an action up to 1000 times, in two halves and within half a minute.
    /// - Parameters:
    ///   - what: name of the action, for the message.
    ///   - processes: where it may leak; this process if there are none.
    /// - Throws: `CheckFailure` if descriptors are lost, or memory in both halves; what `body` throws.
    static func run(_ what: String, in processes: [pid_t] = [], _ body: () throws -> Void) throws {
        let processes = processes.isEmpty ? [getpid()] : processes
        let clock = ContinuousClock()
        let start = clock.now
        var warm = 0
        repeat {
            try body()
            warm += 1
        } while warm < 30 && clock.now - start < .seconds(5)
        let half = min(500, Int(.seconds(15) / max(.microseconds(100), (clock.now - start) / warm)))
        guard half >= 5 else { return }  // too slow to tell

        let before = usage(of: processes)
        for _ in 0..<half { try body() }
        let middle = usage(of: processes)
        for _ in 0..<half { try body() }
        let after = usage(of: processes)
        guard after.descriptors <= before.descriptors else {
            throw CheckFailure("\(after.descriptors - before.descriptors) file descriptors are left open after \(2 * half) of: \(what)")
        }
        // A leak shows in both halves; a cache that fills up does not.
        let lost = min(middle.bytes - before.bytes, after.bytes - middle.bytes)
        guard lost < 250_000 || lost / half < 4096 else {
            throw CheckFailure("\(lost / half) bytes are lost with each \(what) (\(2 * lost / 1000) KB in \(2 * half))")
        }
    }

    /// Resident bytes and open descriptors.
    private static func usage(of processes: [pid_t]) -> (bytes: Int, descriptors: Int) {
        processes.reduce(into: (0, 0)) { sum, pid in
            let pages = (try? String(contentsOfFile: "/proc/\(pid)/statm", encoding: .utf8))?.split(separator: " ").dropFirst().first
            sum.0 += pages.flatMap { Int($0) }.map { $0 * Int(getpagesize()) } ?? 0
            sum.1 += (try? FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/fd"))?.count ?? 0
        }
    }
}
