import Foundation
import Support
import TestSupport
import Testing

@testable import Images
@testable import Rewards

@Suite(.serialized) struct WorkerTests {
    private static let folder = FileManager.default.temporaryDirectory.appendingPathComponent("dag-worker-tests-\(getpid())")
    private static let faulty = Result {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        return try plugin("faulty", in: folder)
    }

    private func reward(_ settings: String) throws -> RewardEvaluator {
        try RewardEvaluator(plugins: ["\(Self.faulty.get()),\(settings)"])
    }

    /// Parts of the error for a reward that fails at sample 4, in a batch of samples 1 to 7 with images of
    /// the values 0 to 6.
    private static let faults: [(fault: String, message: [String])] = [
        ("segv", ["faulty failed on samples 1 to 7 twice", "SIGSEGV"]), ("abort", ["twice", "SIGABRT"]),
        ("exit", ["twice", "ended itself with exit code 0"]), ("hang", ["twice", "did not answer within 0.2 s", "timeout=SECONDS"]),
        ("busy", ["twice", "did not answer within 0.2 s"]), ("close", ["twice", "connection"]), ("garbage", ["twice", "killed"]),
        ("write", ["twice", "SIGSEGV"]), ("nan", ["cannot score sample 4: nan as byte"]), ("too_few", ["sample 4: byte is unwritten"]),
        ("error", ["samples 1 to 7: the service is down"]),
    ]

    @Test(arguments: faults) func faultsEndInOneError(fault: String, message: [String]) throws {
        let evaluator = try reward("fault=\(fault),at=4,timeout=0.2")
        let text = errorMessage { try evaluator.score(RewardFixture.batch(count: 7)) }
        for part in message { #expect(text.contains(part), "\(text)") }
        #expect(text.hasPrefix("reward faulty ") && !text.contains("\n"), "\(text)")
        // A reward that failed on one batch scores the next.
        #expect(try evaluator.score(RewardFixture.batch(count: 2)).reward == [0, 1])
    }

    /// The sample at fault is found and left out, or given the score that was asked for; all others keep
    /// theirs.
    @Test(.slow, arguments: faults) func policiesSaveTheOthers(fault: String, message: [String]) throws {
        let dropping = try reward("fault=\(fault),at=4,timeout=0.2,on_failure=drop").score(RewardFixture.batch(count: 7))
        // A plugin that returns early has not scored the later samples either.
        let failed = fault == "too_few" ? 3..<7 : 3..<4
        #expect(dropping.reward.indices.map { dropping.reward[$0].isNaN } == (0..<7).map(failed.contains))
        #expect(dropping.reward.filter { !$0.isNaN } == (0..<7).filter { !failed.contains($0) }.map(Float.init))
        #expect(dropping.imputed == 0 && dropping.firstFailure?.contains("faulty") == true)
        let imputing = try reward("fault=\(fault),at=4,timeout=0.2,on_failure=impute:-2,weight=3").score(RewardFixture.batch(count: 7))
        #expect(imputing.reward == (0..<7).map { failed.contains($0) ? -6 : Float(3 * $0) })
        #expect(imputing.imputed == failed.count)
    }

    @Test(arguments: ["segv", "exit", "hang", "close", "garbage", "write"]) func oneFaultIsForgiven(fault: String) throws {
        try withFolder { folder in
            let evaluator = try reward("fault=\(fault),at=4,timeout=0.3,once=\(folder.path)/happened")
            #expect(try evaluator.score(RewardFixture.batch(count: 7)).reward == [0, 1, 2, 3, 4, 5, 6])
            #expect(FileManager.default.fileExists(atPath: "\(folder.path)/happened"))
        }
    }

    @Test func noiseAndForksDoNoHarm() throws {
        for fault in ["noise", "fork", "leak"] {
            #expect(try reward("fault=\(fault),at=4").score(RewardFixture.batch(count: 7)).reward == [0, 1, 2, 3, 4, 5, 6], "\(fault)")
        }
    }

    /// OpenMP's idle threads in a worker sleep soon, unless the user has decided that.
    @Test(arguments: [nil, ("GOMP_SPINCOUNT", "7"), ("OMP_WAIT_POLICY", "active")] as [(String, String)?])
    func idleThreadsSleep(chosen: (name: String, value: String)?) throws {
        let names = ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY"]
        let before = names.map { ProcessInfo.processInfo.environment[$0] }
        defer { for (name, value) in zip(names, before) { if let value { setenv(name, value, 1) } else { unsetenv(name) } } }
        names.forEach { unsetenv($0) }
        if let chosen { setenv(chosen.name, chosen.value, 1) }
        let evaluator = try reward("at=4")
        _ = try evaluator.score(RewardFixture.batch(count: 2))
        let worker = try #require(try RewardFixture.processes(Self.folder.path).first)
        let variables = try String(contentsOfFile: "/proc/\(worker)/environ", encoding: .utf8).split(separator: "\0")
        let expected = chosen.map { "\($0.name)=\($0.value)" } ?? "GOMP_SPINCOUNT=10000"
        #expect(variables.filter { entry in names.contains { entry.hasPrefix($0) } } == [expected[...]])
    }

    /// All processes of a worker's group are gone with it: the worker, and a child that the plugin forked.
    @Test func nothingIsLeftBehind() throws {
        func workers() throws -> [pid_t] { try RewardFixture.processes(Self.folder.path) }
        do {
            let evaluator = try reward("fault=fork,at=4,workers=2")
            _ = try evaluator.score(RewardFixture.batch(count: 7))
            #expect(try workers().count == 3)
            // A thread of a pool blocks signals; a process that it starts must not.
            for worker in try workers() {
                #expect(try String(contentsOfFile: "/proc/\(worker)/status", encoding: .utf8).contains("SigBlk:\t0000000000000000"))
            }
        }
        // The evaluator's queue lets go of it a moment later.
        #expect(try waitUntil { try workers().isEmpty })
    }

    /// Workers end with a host that is killed, whatever they do about signals.
    @Test func workersEndWithTheirHost() throws {
        let library = try Self.faulty.get()
        let picture = repository.appendingPathComponent("Tests/Goldens/rewards/words.png").path
        let host = Process()
        host.executableURL = URL(fileURLWithPath: programs.appendingPathComponent("dag-reward").path)
        host.arguments = ["score", "\(library),fault=stubborn,timeout=60", picture]
        try host.run()
        // Host, worker, and the worker's child.
        #expect(try waitUntil { try RewardFixture.processes(library).count == 3 })
        kill(host.processIdentifier, SIGKILL)
        #expect(try waitUntil { try RewardFixture.processes(library).isEmpty })
    }

    /// A worker that is no longer needed has a second to destroy its reward.
    @Test func rewardsAreDestroyed() throws {
        try withFolder { folder in
            let note = "\(folder.path)/destroyed"
            _ = try reward("fault=farewell,once=\(note)")
            #expect(FileManager.default.fileExists(atPath: note))
        }
        _ = try reward("fault=linger,workers=3")
        #expect(try RewardFixture.processes(Self.folder.path).isEmpty)
    }

    /// A worker that has gone to another process group is killed all the same.
    @Test func workersCannotLeaveTheirGroup() throws {
        let evaluator = try reward("fault=regroup,at=4,timeout=0.2")
        #expect(errorMessage { try evaluator.score(RewardFixture.batch(count: 7)) }.contains("did not answer within 0.2 s"))
        #expect(try evaluator.score(RewardFixture.batch(count: 2)).reward == [0, 1])
    }

    @Test func faultsCostNoDescriptors() throws {
        func descriptors() throws -> Int { try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count }
        let evaluator = try reward("fault=abort,at=4")
        _ = errorMessage { try evaluator.score(RewardFixture.batch(count: 7)) }
        let before = try descriptors()
        for _ in 0..<5 { _ = errorMessage { try evaluator.score(RewardFixture.batch(count: 7)) } }
        for _ in 0..<5 { _ = try reward("fault=none,workers=2") }
        #expect(try descriptors() <= before)
        #expect(try RewardFixture.processes(Self.folder.path).count <= 1)
    }

    /// The end of a process is seen even if something else in the program reaps it and takes its status.
    @Test func endsAreSeenWithoutAStatus() throws {
        var pid = pid_t()
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP))
        defer { posix_spawnattr_destroy(&attributes) }
        let arguments = [strdup("true"), nil]
        defer { free(arguments[0]) }
        for isReaped in [false, true] {
            #expect(posix_spawn(&pid, "/bin/true", nil, &attributes, arguments, nil) == 0)
            let group = try ChildGroup(pid)
            #expect(group.hasEnded(within: 10))
            if isReaped { waitpid(pid, nil, 0) }
            #expect(group.end() == (isReaped ? .unknown : .itself(status: 0)))
        }
    }

    /// Cancelling ends a reward that hangs, and it scores the next batch.
    @Test(.timeLimit(.minutes(5))) func abandoningEndsAHang() throws {
        for policy in ["fail", "drop"] {
            let evaluator = try reward("fault=hang,at=4,timeout=600,on_failure=\(policy)")
            let pending = try evaluator.submit(RewardFixture.batch(count: 7))
            evaluator.monitor.cancel()
            #expect(throws: Cancelled.self) { try pending.wait() }
            evaluator.abandon()
            #expect(throws: Cancelled.self) { try evaluator.score(RewardFixture.batch(count: 7)) }
            evaluator.monitor.clearCancellation()
            #expect(try evaluator.score(RewardFixture.batch(count: 2)).reward == [0, 1])
        }
    }

    /// Cancelling ends the loading of a reward that hangs.
    @Test(.timeLimit(.minutes(5))) func loadingCanBeCalledOff() throws {
        let library = try Self.faulty.get()
        let end = monotonicSeconds() + 0.5
        let specification = try RewardSpecification("\(library),fault=create_hang,timeout=600")
        let monitor = Monitor()
        monitor.shouldStop = { monotonicSeconds() >= end }
        #expect(errorMessage { try specification.load(monitor: monitor) }.contains("no longer wanted"))
    }

    @Test func workersShareABatch() throws {
        let reward = try reward("workers=3")
        #expect(try reward.score(RewardFixture.batch(count: 7)).reward == [0, 1, 2, 3, 4, 5, 6])
        #expect(try reward.score(RewardFixture.batch(count: 2)).reward == [0, 1])
    }

    @Test func largePicturesAndTextsArrive() throws {
        let path = try withFolder { folder in
            let evaluator = try RewardEvaluator(plugins: [plugin("probe", in: folder) + ",objective=prompt_bytes"])
            let prompts = [Prompt(String(repeating: "ä", count: 400_000)), "", "a\0b"]
            let report = try evaluator.score(RewardFixture.batch(count: 3, prompts: prompts))
            #expect(report.reward == [800_000, 0, 3])
            let large = try RewardFixture.batch(
                (0..<4).map { n in [UInt8](repeating: UInt8(n), count: 700 * 900 * 3) }, height: 700, width: 900)
            #expect(try evaluator.score(large).objectives["probe/mean"] == [0, 1, 2, 3])
            // Smaller ones after larger ones.
            #expect(try evaluator.score(RewardFixture.batch(count: 2)).objectives["probe/mean"] == [0, 1])
            return folder.path
        }
        #expect(!FileManager.default.fileExists(atPath: path))
    }

    @Test func openingAndMakingFail() throws {
        #expect(errorMessage { try reward("fault=create") } == "reward faulty cannot be made: no weights")
        #expect(errorMessage { try reward("fault=create_segv") }.contains("cannot be made: its worker was ended by SIGSEGV"))
        #expect(errorMessage { try reward("fault=create_hang,timeout=0.2") }.contains("did not answer within 0.2 s"))
        #expect(
            errorMessage { try reward("fualt=none") } == "reward faulty has no option fualt; it knows fault, once, at; "
                + "this program's own are weight, objective, normalize, on_failure, timeout, isolation, workers, device, python")
        #expect(errorMessage { try reward("device=cuda") } == "reward faulty does not run on cuda; it runs on cpu")
        let text = errorMessage { try RewardEvaluator(plugins: ["/lib/x86_64-linux-gnu/libm.so.6"]) }
        #expect(text.contains("does not export dag_reward_entry"), "\(text)")
    }

    /// A worker and the process itself give the same scores and are the same reward.
    @Test func isolationChangesNothing() throws {
        let inside = try reward("isolation=none,fault=nan,at=200")
        let outside = try reward("fault=nan,at=200")
        #expect(inside.fingerprint == outside.fingerprint)
        #expect(try inside.score(RewardFixture.batch(count: 7)).reward == outside.score(RewardFixture.batch(count: 7)).reward)
    }

    @Test func selfCheckRunsInTheWorker() throws {
        let images = try RewardFixture.batch(count: 4).images
        #expect(try reward("fault=segv,at=9").selfCheck(images: images) == [])
        #expect(errorMessage { try reward("fault=segv,at=2").selfCheck(images: images) }.contains("SIGSEGV"))
    }

    /// The self-check follows the failure policy: of a lenient reward, the images that it can score are
    /// compared.
    @Test(arguments: ["nan", "segv", "error", "hang"]) func selfCheckKeepsToThePolicy(fault: String) throws {
        let images = try RewardFixture.batch(count: 4).images
        let gaps = try reward("fault=\(fault),at=2,on_failure=drop,timeout=0.2").selfCheck(images: images)
        #expect(gaps.count == 1 && gaps[0].hasPrefix("1 of 4 images of the self-check cannot be scored: reward faulty "), "\(gaps)")
        #expect(try reward("fault=\(fault),at=2,on_failure=impute:0,timeout=0.2").selfCheck(images: images).count == 1)
        let alone = try RewardFixture.batch(count: 1).images
        let text = errorMessage { try reward("fault=\(fault),at=0,on_failure=drop,timeout=0.2").selfCheck(images: alone) }
        #expect(text.hasPrefix("1 of 1 images of the self-check cannot be scored: reward faulty "), "\(text)")
    }
}
