import DAGCore
import Foundation
import Support

/// The output of dag-train: a line that rewrites itself on a terminal, plain lines elsewhere.
final class ProgressDisplay {
    private let total: Int
    private let isSilent: Bool
    private let isTerminal = isatty(STDOUT_FILENO) != 0
    private var alreadyDone = 0
    private var start = ContinuousClock.now
    private var latest = ""
    private var lastEpoch = -1
    /// The optimiser steps done, and the seconds since the start, at the newest step and at the newest
    /// epoch's end. An epoch begins with sampling, so only whole epochs say how long others will take.
    private var newest = (done: 0, seconds: 0.0), epochEnd: (done: Int, seconds: Double)?

    /// - Parameters:
    ///   - total: optimiser steps of the whole run.
    ///   - isSilent: whether to show nothing, as on ranks other than 0.
    init(total: Int, isSilent: Bool) {
        self.total = total
        self.isSilent = isSilent
    }

    /// Begins to measure the time.
    /// - Parameter done: optimiser steps that were done before.
    func start(done: Int) {
        alreadyDone = done
        start = .now
    }

    /// Writes a line that stays.
    func line(_ text: String) { write((isTerminal ? "\r\u{1B}[K" : "") + text + "\n") }

    /// Shows an optimiser step: epoch, reward, speed, and after the first epoch the time left.
    func step(_ m: StepMetrics) {
        if m.epoch != lastEpoch, lastEpoch >= 0 { epochEnd = newest }
        newest = (m.step + 1, start.duration(to: .now).seconds)
        let text = String(
            format: "epoch %3d  step %d/%d  reward %@ ± %@  loss %.4g  %.0f transitions/s, %.0f%% scoring%@", m.epoch, newest.done, total,
            Self.score(m.rewardMean), Self.score(m.rewardStd), m.loss, m.transitionsPerSecond, 100 * m.scoringShare, timeLeft)
        if isTerminal {
            if m.epoch != lastEpoch, lastEpoch >= 0 { line(latest) }
            rewrite(text)
        } else if m.epoch != lastEpoch {
            write(text + "\n")
        }
        latest = text
        lastEpoch = m.epoch
    }

    private var timeLeft: String {
        guard let epochEnd else { return "" }
        let all = epochEnd.seconds / Double(epochEnd.done - alreadyDone) * Double(total - alreadyDone)
        return "  \(Self.clock(newest.done == total ? 0 : max(0, all - newest.seconds))) left"
    }

    /// Shows how far a kind of work has come; on a terminal only.
    func progress(_ phase: Monitor.Phase, _ done: Int, _ total: Int) {
        guard isTerminal else { return }
        let share = min(1, Double(done) / Double(max(1, total)))
        let filled = Int(share * Double(Self.barWidth))
        let bar = String(repeating: "#", count: filled) + String(repeating: "-", count: Self.barWidth - filled)
        rewrite("[\(bar)] \(phase.rawValue) \(Int(share * 100))%  \(latest)")
    }

    private static let barWidth = 20

    /// Shows the evaluations before and after training as a table.
    func finish(before: Evaluation?, after: Evaluation?) {
        if isTerminal { line(latest) }  // the last epoch's line stays, without the progress note
        guard let after else { return }
        line("")
        line("on \(after.count) fixed prompts and seeds".padded(40) + "before".padded(12) + "after")
        func row(_ name: String, _ old: Double?, _ new: Double) {
            line("  \(name)".padded(40) + (old.map(Self.score) ?? "-").padded(12) + Self.score(new))
        }
        row("reward, mean", before?.rewardMean, after.rewardMean)
        row("reward, standard deviation", before?.rewardStd, after.rewardStd)
        for (name, mean) in after.objectives.sorted(by: { $0.key < $1.key }) { row(name, before?.objectives[name], mean) }
    }

    /// Replaces the line that does not stay by the beginning of a text: of a line that wraps only the end could be replaced.
    private func rewrite(_ text: String) {
        var size = winsize()
        let columns = ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0 && size.ws_col > 1 ? Int(size.ws_col) : 80
        write("\r\u{1B}[K" + text.prefix(columns - 1))
    }

    /// Writes to standard output; a reader that has gone away (`dag-train | head`) does not end the training.
    private func write(_ text: String) { if !isSilent { try? FileHandle.standardOutput.write(contentsOf: Data(text.utf8)) } }

    private static func score(_ value: Double) -> String { String(format: value.magnitude < 1e6 ? "%.4f" : "%.4g", value) }

    private static func clock(_ seconds: Double) -> String {
        let s = Int(seconds.rounded())
        return s >= 3600 ? String(format: "%d:%02d:%02d", s / 3600, s / 60 % 60, s % 60) : String(format: "%d:%02d", s / 60, s % 60)
    }
}
