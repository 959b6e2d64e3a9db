@testable import DAGCore
import Foundation
@testable import Rewards
@testable import Tensors

/// Trains with rewards that go wrong, again and again: what the user sees, and whether training stopped or went on as the policy says.
enum Faults {
    /// A way to go wrong in the second epoch, at sample 5.
    private struct Fault {
        let name: String
        /// The reward with its settings.
        let reward: String
        /// Whether it is the sample that fails; otherwise the run does not begin, or nothing happens at all.
        var kind = Kind.sample

        enum Kind { case sample, opening, harmless }
    }

    private static func faults(_ folder: URL, _ root: URL, python: String) throws -> [Fault] {
        func plugin(_ name: String, _ arguments: [String]) throws -> String {
            try compile(
                ["-I", root.appendingPathComponent("include").path] + arguments, to: folder.appendingPathComponent("lib\(name).so"))
        }
        let sources = root.appendingPathComponent("Benchmarks/Rewards/faults").path
        let tests = root.appendingPathComponent("Tests/Plugins").path
        let faulty = try plugin("faulty", ["\(tests)/faulty.c"])
        func own(_ name: String, _ fault: String, _ kind: Fault.Kind = .sample) -> Fault {
            Fault(name: name, reward: "\(faulty),fault=\(fault),at=5", kind: kind)
        }
        // A library that depends on one that is not there when it is loaded.
        let missing = try compile(["-x", "c", "/dev/null"], to: folder.appendingPathComponent("libmissing.so"))
        let dependent = try plugin("dependent", ["\(tests)/minimal.c", "-Wl,--no-as-needed", missing])
        try FileManager.default.removeItem(atPath: missing)
        let script = folder.appendingPathComponent("raises.py").path
        try """
        calls = 0
        def score(images, prompts, metadata):
            global calls
            calls += 1
            if calls > 3:
                raise ValueError("out of ideas")
            return images[:, 0, 0, 0]
        """.write(toFile: script, atomically: true, encoding: .utf8)
        var all = [
            own("SIGSEGV", "segv"), own("abort()", "abort"), own("exit(0)", "exit"), own("hang", "hang"), own("busy loop", "busy"),
            own("NaN", "nan"), own("too few scores", "too_few"), own("an error of its own", "error"),
            Fault(name: "wrong ABI version", reward: try plugin("version", ["-DFAULT_VERSION", "\(tests)/probe.c"]), kind: .opening),
            Fault(name: "missing symbol", reward: try plugin("entry", ["-DFAULT_ENTRY", "-w", "\(tests)/probe.c"]), kind: .opening),
            Fault(name: "unresolved dependency", reward: dependent, kind: .opening),
            Fault(name: "C++ exception", reward: try plugin("throws", ["\(sources)/throws.cpp", "-lstdc++"]) + ",at=5"),
            own("fork()", "fork", .harmless), own("closed descriptors", "close"), own("noise on stdout", "noise", .harmless),
            own("garbage on the connection", "garbage"), own("writes to its input", "write"), own("leak of 1 MB", "leak", .harmless),
            Fault(name: "Python exception", reward: "\(script),python=\(python)"),
        ]
        let rust = folder.appendingPathComponent("libpanics_rust.a").path
        if (try? execute("rustc", ["--crate-type", "staticlib", "-o", rust, "\(sources)/panics.rs"])) != nil {
            let library = try plugin("panics", ["\(sources)/panics.c", rust, "-lpthread", "-ldl"])
            all.append(Fault(name: "Rust panic", reward: library + ",at=5"))
        } else {
            say("(no rustc: a Rust panic is not tried)")
        }
        return all
    }

    static func run(runs: Int, python: String, folder: URL, root: URL) throws {
        say("| fault | runs | as the policy says | what the user sees with on_failure=fail |\n|---|---|---|---|")
        for fault in try faults(folder, root, python: python) {
            var (right, message, wrong) = (0, "", "")
            for run in 0..<runs {
                let policy = run % 2 == 0 ? "fail" : "drop"
                let output = OutputFolder(folder.appendingPathComponent("run").path)
                try? FileManager.default.removeItem(at: output.url)
                let outcome = try train(fault, policy, output, root)
                if policy == "fail" { message = outcome.message }
                if outcome.isRight { right += 1 } else { wrong = "\(policy): \(outcome.message)" }
            }
            say("| \(fault.name) | \(runs) | \(right) | \(message.isEmpty ? "nothing" : message) |")
            if !wrong.isEmpty { say("    wrong: \(wrong)") }
        }
        let left = try execute("sh", ["-c", "pgrep -fc 'dag-reward-worke[r] plugin \(folder.path)' || true"])
        say("\nworker processes left behind: \(left.trimmingCharacters(in: .whitespacesAndNewlines))")
    }

    /// Two epochs of four trajectories; sample 5 is in the second.
    private static func train(_ fault: Fault, _ policy: String, _ output: OutputFolder, _ root: URL) throws -> (
        isRight: Bool, message: String
    ) {
        var c = TrainingConfiguration()
        c.model = root.appendingPathComponent("models/tiny-sd").path
        c.rewardPlugin = ["\(fault.reward),on_failure=\(policy),timeout=0.2"]
        if fault.name.hasPrefix("Python") { c.rewardPlugin = ["\(fault.reward),on_failure=\(policy)"] }
        (c.prompts, c.epochs, c.steps, c.sampleBatchSize, c.batchesPerEpoch) = ("tiny-sd", 2, 2, 4, 1)
        (c.trainBatchSize, c.gradientAccumulationSteps, c.precision, c.device, c.sampleEvery) = (4, 1, .fp32, .cpu, 0)
        var (epochs, dropped) = (0, 0)
        do {
            var run = try TrainingRun(c, output: output)
            let trainer = try run.prepare()
            trainer.onStep = { (epochs, dropped) = ($0.epoch + 1, dropped + $0.dropped) }
            try trainer.run()
            let right: Bool =
                switch fault.kind {
                case .harmless: epochs == 2 && dropped == 0
                case .sample: policy == "drop" && epochs == 2 && dropped > 0
                case .opening: false
                }
            return (right, "")
        } catch {
            // Stopped: what the first epoch gave has to be there.
            let saved = (try? FileManager.default.contentsOfDirectory(atPath: output.url.path + "/checkpoints")) ?? []
            let message = "\(error)".replacingOccurrences(of: output.url.deletingLastPathComponent().path, with: "...")
            switch fault.kind {
            case .opening: return (epochs == 0 && message.hasPrefix("reward"), message)
            case .sample:
                // A whole-batch Python error repeats for each picture: with `drop` nothing is left of the epoch, which is an error too.
                let isAllDropped = policy == "drop" && message.contains("were dropped")
                return ((policy == "fail" || isAllDropped) && epochs == 1 && saved.contains { $0.contains("epoch-00001") }, message)
            case .harmless: return (false, message)
            }
        }
    }
}
