import Foundation
import Support
import TestSupport
import Testing

@testable import Images
@testable import Rewards

/// Rewards in Python files.
@Suite(.python) struct PythonRewardTests {
    private func evaluator(_ source: String, _ settings: String = "", in folder: URL) throws -> RewardEvaluator {
        let file = folder.appendingPathComponent("my_reward.py").path
        try source.write(toFile: file, atomically: true, encoding: .utf8)
        return try RewardEvaluator(plugins: ["\(file),python=\(python)" + (settings.isEmpty ? "" : ",\(settings)")])
    }

    private func score(_ source: String, _ settings: String = "", prompts: [Prompt]? = nil) throws -> RewardReport {
        try withFolder { try evaluator(source, settings, in: $0).score(RewardFixture.batch(count: 3, prompts: prompts)) }
    }

    @Test func aFunctionIsAReward() throws {
        let source = """
            def score(images, prompts, metadata):
                assert images.shape == (3, 4, 4, 3) and images.dtype == "uint8" and metadata == [{}, {"n": [1, None]}, {}]
                return images.mean(axis=(1, 2, 3)) + [len(prompt) for prompt in prompts]
            """
        #expect(try score(source, prompts: ["", Prompt("ä", metadata: #"{"n":[1,null]}"#), "a\0b"]).reward == [0, 2, 5])
    }

    /// Images in a cycle are garbage, and copies are the reward's own.
    @Test func imagesMayBeCopied() throws {
        let source = """
            kept = []
            def score(images, prompts, metadata):
                kept.append(images.copy())
                cycle = [images]
                cycle.append(cycle)
                return [float(kept[0][k].mean()) for k in range(3)]
            """
        #expect(try score(source).reward == [0, 1, 2])
    }

    @Test func everythingCanBeSaid() throws {
        let source = #"""
            """How red a picture is."""
            import sys
            NAME, VERSION, LICENSE, LARGEST_BATCH = "redness", "2.0", "MIT", 2
            OBJECTIVES = {"red": "maximize", "size": "minimize"}

            def setup(factor=2, sign="+", clip=False, device="none"):
                global scale
                scale = factor * (1 if sign == "+" else -1)
                assert clip is True and device == "cuda:1"
                print("loaded")

            def score(images, prompts, metadata):
                return {"size": [len(images)] * len(images), "red": images[:, 0, 0, 0].astype(float) * scale}
            """#
        try withFolder { folder in
            let evaluator = try evaluator(source, "factor=3,sign=-,clip=true,device=cuda:1,weight=2", in: folder)
            #expect(evaluator.objectiveNames == ["redness/red", "redness/size"])
            let report = try evaluator.score(RewardFixture.batch(count: 3))
            #expect(report.reward == [0, -6, -12])
            #expect(report.objectives["redness/size"] == [2, 2, 1])
            let description = try RewardSpecification("\(folder.path)/my_reward.py,python=\(python)").open().description
            #expect(description.detail == "How red a picture is." && description.license == "MIT" && description.largestBatch == 2)
            #expect(description.options.map(\.key) == ["factor", "sign", "clip"] && description.options[0].defaultValue == "2")
        }
    }

    private static let mistakes: [(source: String, settings: String, part: String)] = [
        ("score = 3", "", "my_reward.py cannot be opened: it defines no function score"),
        ("import no_such_module", "", "ModuleNotFoundError: No module named 'no_such_module' (line 1)"),
        ("def score(:", "", "SyntaxError"), ("def score(a, b, c): return [1, 2]", "", "an array of shape (2,) for 3 images"),
        ("def score(a, b, c):\n  return 1 / 0", "", "failed on samples 1 to 3: ZeroDivisionError: division by zero (line 2)"),
        ("def score(a, b, c): return [0, float('nan'), 2]", "", "cannot score sample 2: nan as score"),
        ("def score(a, b, c):\n  a[0] = 1", "", "read-only"), ("import os\ndef score(a, b, c): os._exit(3)", "", "exit code 3"),
        ("import os, signal\ndef score(a, b, c): os.kill(os.getpid(), signal.SIGSEGV)", "", "SIGSEGV"),
        ("def score(a, b, c):\n  while True: pass", "timeout=1", "did not answer within 1 s"),
        ("import sys\ndef score(a, b, c): sys.exit(4)", "", "exit code 4"),
        ("def setup(model): pass\ndef score(a, b, c): pass", "", "needs a name and a default"),
        ("def setup(size=3): pass\ndef score(a, b, c): pass", "size=x", "size=x is not of type int"),
        ("def setup(size=3.5): pass\ndef score(a, b, c): pass", "size=1e400", "size=1e400 is not finite, as setup()'s default 3.5 is"),
        ("def setup(size=3.5): pass\ndef score(a, b, c): pass", "size=nan", "size=nan is not finite"),
        ("kept = []\ndef score(a, b, c):\n  kept.append(a[0])\n  return [0, 1, 2]", "", "failed on samples 1 to 3: it kept its images"),
        ("def setup(size=3): pass\ndef score(a, b, c): pass", "siez=1", "has no option siez; it knows size"),
        ("def setup(weight=3): pass\ndef score(a, b, c): pass", "", "declares the option weight"),
        ("OBJECTIVES = {'a': 'up'}\ndef score(a, b, c): pass", "", "it must be maximize or minimize"),
        ("OBJECTIVES = {'a/b c': 'maximize'}\ndef score(a, b, c): pass", "", "calls its objective `a/b c`, which is not lower-case words"),
        ("NAME = 'My Reward, v2'\ndef score(a, b, c): pass", "", "calls its reward `My Reward, v2`, which is not lower-case words"),
        ("OBJECTIVES = {1: 'maximize'}\ndef score(a, b, c): pass", "", "OBJECTIVES has the key 1, which is not of type str"),
        ("DEVICES = ['cpu', 1]\ndef score(a, b, c): pass", "", "DEVICES holds 1, which is not of type str"),
        ("LARGEST_BATCH = -1\ndef score(a, b, c): pass", "", "LARGEST_BATCH is -1; it must be"),
        ("VERSION = 3\ndef score(a, b, c): pass", "", "VERSION is 3"),
        ("def score(a, b, c): pass", "isolation=none", "a process of its own"),
    ]

    @Test(.slow, arguments: mistakes) func mistakesAreExplained(source: String, settings: String, part: String) throws {
        let text = errorMessage { try score(source, settings) }
        #expect(text.contains(part) && text.hasPrefix("reward ") && !text.contains("\n"), "\(text)")
    }

    @Test func linesAreGivenForRelativePathsToo() throws {
        try withFolder { folder in
            try "def score(a, b, c):\n  return 1 / 0".write(to: folder.appendingPathComponent("r.py"), atomically: true, encoding: .utf8)
            let up = FileManager.default.currentDirectoryPath.split(separator: "/").map { _ in "../" }.joined()
            let file = "\(up)\(folder.path.dropFirst())/r.py"
            let evaluator = try RewardEvaluator(plugins: ["\(file),python=\(python)"])
            let text = errorMessage { try evaluator.score(RewardFixture.batch(count: 1)) }
            #expect(text == "reward r failed on sample 1: ZeroDivisionError: division by zero (line 2)")
        }
    }

    /// Objects that behave like tensors, by themselves and in a dict.
    @Test func tensorsAreScores() throws {
        let tensor = """
            class Tensor:
                def __init__(self, values): self.values = values
                def detach(self): return self
                def float(self): return self
                def cpu(self): return self
                def numpy(self):
                    import numpy
                    return numpy.array(self.values)

            """
        #expect(try score(tensor + "def score(a, b, c): return Tensor([1, 2, 3])").reward == [1, 2, 3])
        #expect(try score(tensor + "def score(a, b, c): return {'score': Tensor([1, 2, 3])}").reward == [1, 2, 3])
    }

    /// The conversion of what a function returns is the same for dagcore: Tests/python/test_scores.py has every case.
    @Test(arguments: [
        ("a, {}", "failed on samples 1 to 3: it returned a tuple of ndarray, dict; return the scores alone"),
        ("None", "it returned something of type NoneType; return a number for each image"),
        ("(x for x in [1, 2, 3])", "it returned something of type generator"), ("{1: [1, 2, 3]}", "a dict with the keys [1]"),
        ("numpy.array([1j] * 3)", "it returned numbers of type complex128"), ("[[1], 2, 3]", "entries are of different shapes"),
        ("numpy.ma.array([1, 2, 3], mask=[0, 1, 0])", "cannot score sample 2: nan as score"),
    ])
    func whatIsNoScoreIsNamed(returned: String, part: String) throws {
        let text = errorMessage { try score("import numpy\ndef score(a, b, c): return \(returned)") }
        #expect(text.contains(part) && !text.contains("\n"), "\(text)")
    }

    /// A process that is started again must serve the same reward as the first.
    @Test func aRewardThatChangesIsNoLongerUsed() throws {
        let source = """
            import os
            def score(a, b, c):
                open(__file__, "a").write("\\n")
                os._exit(3)
            """
        let text = errorMessage { try score(source) }
        #expect(
            text.hasPrefix(
                "reward my_reward failed on samples 1 to 3: it ended itself with exit code 3, and a new process could not be made: "
                    + "the reward changed during the run, its new process is `my_reward 0 "), "\(text)")
    }

    /// The error about a process that cannot be started again also tells why the first one ended.
    @Test func aReloadThatFailsTellsWhatCameBefore() throws {
        let source = """
            import os
            if os.path.exists(__file__ + ".flag"):
                raise RuntimeError("out of memory while loading")
            def score(a, b, c):
                open(__file__ + ".flag", "w").close()
                os.kill(os.getpid(), 9)
            """
        try withFolder { folder in
            let evaluator = try evaluator(source, in: folder)
            let reason =
                "a new process could not be made: reward my_reward.py cannot be opened: RuntimeError: out of memory while loading (line 3)"
            let first = errorMessage { try evaluator.score(RewardFixture.batch(count: 3)) }
            #expect(
                first
                    == "reward my_reward failed on samples 1 to 3: it was ended by SIGKILL (perhaps for using too much memory), "
                    + "and \(reason)")
            let second = errorMessage { try evaluator.score(RewardFixture.batch(count: 3)) }
            #expect(second == "reward my_reward failed on samples 1 to 3: \(reason)")
        }
    }

    /// Workers load at the same time, and the process that described the file is one of them.
    @Test func workersLoadTogether() throws {
        let source = """
            import glob, os, time
            mine = f"{__file__}.{os.getpid()}"
            def setup():
                open(mine, "w").close()
                for _ in range(1000):
                    if len(glob.glob(__file__ + ".*")) >= 2:
                        return
                    time.sleep(0.02)
                raise RuntimeError("alone")
            def score(a, b, c): return [1] * len(a)
            """
        try withFolder { folder in
            let report = try evaluator(source, "workers=2", in: folder).score(RewardFixture.batch(count: 3))
            #expect(report.reward == [1, 1, 1])
            #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).count == 3)
        }
    }

    /// Children of the file end with the host, even while a call hangs and however the host ends.
    @Test func childrenEndWithTheHost() throws {
        let source = """
            import subprocess, sys, time
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", __file__])
            def score(a, b, c): time.sleep(600)
            """
        try withFolder { folder in
            let file = folder.appendingPathComponent("my_reward.py").path
            try source.write(toFile: file, atomically: true, encoding: .utf8)
            let host = Process()
            host.executableURL = URL(fileURLWithPath: programs.appendingPathComponent("dag-reward").path)
            let picture = repository.appendingPathComponent("Tests/Goldens/rewards/words.png").path
            host.arguments = ["score", "\(file),python=\(python)", picture]
            try host.run()
            #expect(try waitUntil { try RewardFixture.processes(file).count == 3 })
            kill(host.processIdentifier, SIGKILL)
            #expect(try waitUntil { try RewardFixture.processes(file).isEmpty })
        }
    }

    /// A file that closes descriptors of others gets another error than one that exits.
    @Test func closedDescriptorsAreExplained() throws {
        let text = errorMessage { try score("import os\nos.close(3)\ndef score(a, b, c): return [1] * 3") }
        #expect(text.contains("lost its connection to the host"), "\(text)")
    }

    /// A worker that speaks another version is refused. Version 1 did not name its version.
    @Test func workersOfAnotherReleaseAreRefused() throws {
        try withFolder { folder in
            let file = folder.appendingPathComponent("my_reward.py").path
            try "def score(a, b, c): pass".write(toFile: file, atomically: true, encoding: .utf8)
            let source = String(decoding: PackageResources.scores_py + PackageResources.worker_py, as: UTF8.self).replacing(
                #", "protocol": PROTOCOL"#, with: "")
            let program = WorkerProcess.Program(path: python, arguments: ["-c", source, file])
            let text = errorMessage { try IsolatedLibrary(name: "r", program: program, count: 1, timeout: 30, monitor: Monitor()) }
            #expect(text.hasSuffix("is of another release than this program: it speaks version 1 and not 2; install both anew"), "\(text)")
        }
    }

    @Test func interpretersAndFilesThatAreNotThere() throws {
        #expect(errorMessage { try RewardEvaluator(plugins: ["nowhere.py"]) } == "reward nowhere.py: no such file")
        try withFolder { folder in
            let file = folder.appendingPathComponent("r.py").path
            try "def score(a, b, c): pass".write(toFile: file, atomically: true, encoding: .utf8)
            #expect(
                errorMessage { try RewardEvaluator(plugins: ["\(file),python=/no/python"]) }.contains(
                    "/no/python cannot be started: No such file"))
        }
    }

    /// The code is part of the fingerprint: a run does not go on with another reward of the same name.
    @Test func editsChangeTheFingerprint() throws {
        let prints = try ["return [1] * 3", "return [2] * 3", "return [1] * 3"].map { body in
            try withFolder { try evaluator("def score(a, b, c): \(body)", in: $0).fingerprint }
        }
        #expect(prints[0] == prints[2] && prints[0] != prints[1])
    }

    /// So are the settings, in words.
    @Test func fingerprintsAreWords() throws {
        let source = "def setup(quality=3, name='x'): pass\ndef score(a, b, c): return [1] * 3"
        try withFolder { folder in
            let usual = try evaluator(source, in: folder)
            #expect(usual.fingerprint.hasSuffix(" name=x quality=3"), "\(usual.fingerprint)")
            let other = try evaluator(source, "quality=4", in: folder)
            #expect(other.difference(from: usual.fingerprint) == "my_reward: `quality=3` then, `quality=4` now")
        }
    }
}
