import Foundation
import TestSupport
import Testing

/// Runs on several processes, as a user would start them.
@Suite(.serialized) struct ProcessesTests {
    private let temporary: TemporaryFolder
    private var folder: URL { temporary.url }

    init() throws { temporary = try TemporaryFolder() }

    private func flags(_ output: String, reward: String = "libwarmth.so") -> [String] {
        [
            "--model", tinySD, "--reward-plugin", reward, "--prompts", "tiny-sd", "--steps", "3", "--sample-batch-size", "4",
            "--batches-per-epoch", "2", "--train-batch-size", "2", "--gradient-accumulation-steps", "4", "--max-rows-per-pass", "8",
            "--precision", "fp32", "--device", "cpu", "--threads", "1", "--epochs", "2", "--output", output,
        ]
    }

    private func run(_ arguments: [String], environment: [String: String] = [:]) throws -> Outcome {
        try Shell.run(["timeout", "120"] + arguments, in: folder, environment: environment.merging(["OMP_NUM_THREADS": "1"]) { $1 })
    }

    private func lora(_ output: String) throws -> Data {
        try Data(contentsOf: folder.appendingPathComponent("\(output)/pytorch_lora_weights.safetensors"))
    }

    private func lines(_ outcome: Outcome) -> [Substring] { outcome.error.split(separator: "\n") }

    /// One process, several of dag-train's own, of torchrun and of mpirun: the same bytes.
    @Test func processes() throws {
        for (name, processes) in [("one", "1"), ("two", "2")] {
            let outcome = try run(["dag-train", "--processes", processes] + flags(name))
            #expect(outcome.status == 0 && outcome.error.isEmpty, "\(outcome)")
            #expect(outcome.out.split(separator: "\n").count { $0.hasPrefix("epoch") } == 2, "\(outcome.out)")
        }
        #expect(try lora("one") == lora("two"))
        // As many as there are cores, of which tests have one or more: the same bytes again.
        let auto = try run(["dag-train", "--processes", "auto"] + flags("auto"))
        #expect(auto.status == 0 && auto.error.isEmpty, "\(auto)")
        #expect(try lora("auto") == lora("one"))
        for (processes, epochs) in [("4", "3"), ("auto", "4")] {
            let again = try run(["dag-train", "--processes", processes, "--resume", "two", "--epochs", epochs])
            #expect(again.status == 0, "\(again)")
        }
        let unknown = try run(["dag-train", "--processes", "all"] + flags("unknown"))
        #expect(unknown.status == 2 && unknown.error.contains("--processes"), "\(unknown)")
    }

    /// torchrun, and a job that it starts anew after a failure.
    @Test(
        .slow,
        .enabled(if: FileManager.default.isExecutableFile(atPath: Self.torchrun), "needs .venv's torchrun, from scripts/setup.sh --python"))
    func torchruns() throws {
        let launcher = [Self.torchrun, "--standalone", "--no-python", "--nproc-per-node", "2", "--max-restarts", "1"]
        let plugin = try plugin("faulty", in: folder)
        let once = folder.appendingPathComponent("once").path
        let whole = try run(["dag-train"] + flags("whole", reward: "\(plugin),at=-1"))
        #expect(whole.status == 0, "\(whole)")
        // In the second epoch; a plain crash of a reward would be forgiven.
        let outcome = try run(launcher + ["dag-train"] + flags("restarted", reward: "\(plugin),fault=error,at=12,once=\(once)"))
        #expect(outcome.status == 0, "\(outcome)")
        #expect(FileManager.default.fileExists(atPath: once))
        #expect(try lora("restarted") == lora("whole"))
    }

    @Test(.slow, .programs("mpirun")) func mpiruns() throws {
        let whole = try run(["dag-train"] + flags("whole"))
        let outcome = try run(
            ["mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "2", "dag-train"] + flags("mpi"),
            environment: ["MASTER_PORT": "\(Self.port)"])
        #expect(whole.status == 0 && outcome.status == 0, "\(outcome)")
        #expect(try lora("mpi") == lora("whole"))
    }

    /// Two machines, as two network namespaces with a cable between them: a rank on each, no common folder.
    @Test(.slow, .enabled(if: canMakeNetworks, "needs root and iproute2, to make network namespaces")) func machines() throws {
        let script = """
            a=dag-$$-a b=dag-$$-b
            trap 'ip netns del $a; ip netns del $b' EXIT
            set -e
            ip netns add $a; ip netns add $b
            ip link add eth0 netns $a type veth peer name eth0 netns $b
            for place in "$a 10.0.0.1" "$b 10.0.0.2"; do
                ip -n ${place% *} address add ${place#* }/24 dev eth0
                ip -n ${place% *} link set eth0 up
                ip -n ${place% *} link set lo up
            done
            mkdir other
            export WORLD_SIZE=2 LOCAL_RANK=0 LOCAL_WORLD_SIZE=1 MASTER_ADDR=10.0.0.1
            (cd other && RANK=1 ip netns exec $b dag-train "$@") & second=$!
            RANK=0 ip netns exec $a dag-train "$@"
            wait $second
            """
        let outcome = try run(["bash", "-c", script, "bash"] + flags("run"))
        #expect(outcome.status == 0 && outcome.error.isEmpty, "\(outcome)")
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.appendingPathComponent("other").path).isEmpty)
        let whole = try run(["dag-train"] + flags("whole"))
        #expect(whole.status == 0)
        #expect(try lora("run") == lora("whole"))
    }

    private static let canMakeNetworks = {
        let trial = "ip netns add dag-$$ && ip -n dag-$$ link add eth0 type veth peer name eth1 && ip netns del dag-$$"
        return (try? Shell.run(["bash", "-c", trial], in: repository))?.status == 0
    }()

    private static let torchrun = repository.appendingPathComponent(".venv/bin/torchrun").path
    /// Most likely free.
    private static let port = Int.random(in: 20000..<30000)

    /// Errors of settings, and of a reward on either rank: one line, by rank 0.
    @Test func failures() throws {
        let setting = try run(["dag-train", "--processes", "2"] + flags("run") + ["--eta", "0"])
        #expect(setting.status == 2 && lines(setting).count == 1 && setting.error.contains("--eta"), "\(setting)")
        let many = try run(["dag-train", "--processes", "5"] + flags("run"))
        #expect(many.status == 2 && lines(many).count == 1 && many.error.contains("start at most 4"), "\(many)")
        let plugin = try plugin("faulty", in: folder)
        var ranks: Set<Bool> = []
        for sample in [8, 10] {
            let outcome = try run(["dag-train", "--processes", "2"] + flags("\(sample)", reward: "\(plugin),fault=error,at=\(sample)"))
            #expect(outcome.status == 1 && lines(outcome).count == 1, "\(outcome)")
            #expect(outcome.error.contains("the service is down"))
            ranks.insert(outcome.error.contains("rank 1: "))
            // The first epoch is saved.
            #expect(
                FileManager.default.fileExists(atPath: folder.appendingPathComponent("\(sample)/pytorch_lora_weights.safetensors").path))
        }
        #expect(ranks == [false, true])
    }

    /// Has `ranks` be the process ids of the ranks, of which `main` is the first. A thread may end while it looks.
    private static let findRanks = """
        ranks=($main); for child in $(cat /proc/$main/task/*/children 2>/dev/null); do
            if [[ $(cat /proc/$child/comm 2>/dev/null) == dag-train ]]; then ranks+=($child); fi; done
        """

    /// A rank that is killed before all have met is not waited for.
    @Test func killedBeforeTheMeeting() throws {
        let script = """
            dag-train --processes 3 "$@" >log 2>errors & main=$!
            ranks=()
            until [[ ${#ranks[@]} -ge 2 ]]; do \(Self.findRanks) done
            kill -9 ${ranks[1]}
            wait $main; status=$?
            cat errors >&2
            exit $status
            """
        let outcome = try run(["bash", "-c", script, "bash"] + flags("run"))
        #expect(outcome.status == 1 && lines(outcome).count == 1, "\(outcome)")
        #expect(outcome.error.hasPrefix("dag-train: rank 1 has ended before all ranks had met"), "\(outcome)")
        #expect(!FileManager.default.fileExists(atPath: folder.appendingPathComponent("run").path))
    }

    /// A rank is killed after the first epoch: the others end, each with one line, no process stays, and the
    /// run can be continued.
    @Test(.slow, arguments: [0, 1]) func killed(rank: Int) throws {
        let script = """
            dag-train --processes 3 "$@" >log 2>errors & main=$!
            until grep -q '^epoch   0' log; do sleep 0.02; done
            \(Self.findRanks)
            kill -9 ${ranks[\(rank)]}
            for pid in ${ranks[@]}; do while grep -q '^State:.*[^Z] (' /proc/$pid/status 2>/dev/null; do sleep 0.02; done; done
            cat errors >&2
            """
        let outcome = try run(["bash", "-c", script, "bash"] + flags("run"))
        let survivors = lines(outcome).filter { $0.hasPrefix("dag-train: rank \(rank) has ended or cannot be reached") }
        #expect(survivors.count == 2, "\(outcome)")
        let again = try run(["dag-train", "--processes", "2", "--resume", "run"])
        #expect(again.status == 0, "\(again)")
        let whole = try run(["dag-train"] + flags("whole"))
        #expect(whole.status == 0)
        #expect(try lora("run") == lora("whole"))
    }

    /// Ctrl-C on one rank stops all, and what is saved is the epoch under way.
    @Test(.slow, arguments: [0, 1]) func interrupted(rank: Int) throws {
        let script = """
            dag-train --processes 2 "$@" >log 2>errors & main=$!
            until grep -q '^epoch   0' log; do sleep 0.02; done
            \(Self.findRanks)
            kill -INT ${ranks[\(rank)]}
            wait $main
            """
        let outcome = try run(["bash", "-c", script, "bash"] + flags("run"))
        #expect(outcome.status == 130, "\(outcome)")
        #expect(try String(contentsOf: folder.appendingPathComponent("log"), encoding: .utf8).contains("stopped and saved"))
        let again = try run(["dag-train", "--resume", "run"])
        let whole = try run(["dag-train"] + flags("whole"))
        #expect(again.status == 0 && whole.status == 0, "\(again)")
        #expect(try lora("run") == lora("whole"))
    }
}
