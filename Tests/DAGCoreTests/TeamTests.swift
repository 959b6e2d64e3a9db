import Foundation
import Images
import Models
import Rewards
import Support
import Synchronization
import Tensors
import TestSupport
import Testing

@testable import DAGCore

/// Runs `body` on several ranks, which are threads of this process.
func onRanks<Value>(_ count: Int, _ body: @escaping @Sendable (Team) throws -> Value) throws -> [Result<Value, any Error>] {
    @Sendable func table(_ port: Int) throws -> SharedTable {
        try SharedTable(host: "127.0.0.1", port: port, hosts: port == 0, name: "test", patience: 60)
    }
    let host = try table(0)
    return concurrently(count) { rank in
        Result { try body(count == 1 ? Team() : Team(at: rank == 0 ? host : table(host.port), rank: rank, count: count)) }
    }
}

/// What ranks say to each other, and how they end together.
@Suite struct TeamTests {
    private struct Failure: Error, CustomStringConvertible { let description = "the reward is down" }

    @Test(arguments: [1, 2, 3, 4]) func exchanges(count: Int) throws {
        for (rank, result) in try onRanks(
            count,
            { team -> Bool in
                let ranks = Array(0..<team.count)
                let everyone = try team.exchange("lists", Array(repeating: Float.nan, count: team.rank) + [Float(team.rank)])
                let parts = try team.exchange("parts", parts: ranks.map { "\(team.rank) to \($0)" })
                let gathered = try team.gather("gathered", Tensor([Float(team.rank)])).map { try $0.array(Float.self) }
                let scattered = try team.fromLeader("scattered") { rank -> String? in rank == 1 ? nil : "for \(rank)" }
                let squares = try team.map("squares", Array(0..<7)) { $0 * $0 }
                return everyone.map(\.count) == ranks.map { $0 + 1 } && everyone.compactMap(\.last) == ranks.map(Float.init)
                    && parts == ranks.map { "\($0) to \(team.rank)" }
                    && gathered == (team.isLeader ? ranks.map { [Float($0)] } : [])
                    && scattered == (team.rank == 1 ? nil : "for \(team.rank)") && squares == (0..<7).map { $0 * $0 }
            }
        ).enumerated() { #expect(try result.get(), "rank \(rank)") }
    }

    /// A rank that fails before, between or after the exchanges of the others: all end that work, and go on
    /// with the next.
    @Test(arguments: [0, 1, 2], [false, true]) func failuresReachAll(step: Int, isCancelled: Bool) throws {
        let results = try onRanks(3) { team -> [any Error] in
            var errors: [any Error] = []
            do {
                try team.together("work") {
                    for now in 0...2 {
                        if now == step, team.rank == 1 { throw isCancelled ? Cancelled() : Failure() as any Error }
                        if now < 2 { _ = try team.exchange("step", now) }
                    }
                }
            } catch { errors.append(error) }
            let ranks = try team.together("next work") { try team.exchange("ranks", team.rank) }
            #expect(ranks == [0, 1, 2])
            return errors
        }
        for (rank, result) in results.enumerated() {
            let errors = try result.get()
            #expect(errors.count == 1)
            if isCancelled {
                #expect(errors[0] is Cancelled)
            } else if rank == 1 {
                #expect(errors[0] is Failure)
            } else {
                #expect((errors[0] as? TeamError)?.description == "rank 1: the reward is down")
            }
        }
    }

    /// A rank that is asked to stop while the others work, or while it waits for them: they do not work to
    /// the end.
    @Test(arguments: [false, true]) func cancellationReachesThoseAtWork(isWaiting: Bool) throws {
        let results = try onRanks(3) { team -> Bool in
            let monitor = Monitor()
            team.serve(monitor)
            do {
                try team.together("work") {
                    if team.rank == 1 {
                        if isWaiting { Thread.detachNewThread { [monitor] in monitor.cancel() } } else { throw Cancelled() }
                    } else {
                        let patience = ContinuousClock.now + .seconds(60)
                        while ContinuousClock.now < patience { try monitor.throwIfCancelled() }
                    }
                    _ = try team.exchange("end", 0)
                }
                return false
            } catch is Cancelled {
                return true
            }
        }
        for result in results { #expect(try result.get()) }
    }

    @Test func differentCallsAreNamed() throws {
        let results = try onRanks(2) { team in try team.together(team.isLeader ? "score" : "evaluate") {} }
        for result in results {
            let error = #expect(throws: TeamError.self) { try result.get() }
            #expect(
                error?.description
                    == "rank 1 is at 'evaluate', rank 0 at 'score': all ranks have to make the same calls in the same order")
        }
    }

    @Test func differencesAreNamed() throws {
        for result in try onRanks(3, { team in try team.agree(on: ["beta": team.rank == 2 ? "10" : "100", "seed": "1"]) }) {
            let error = #expect(throws: TeamError.self) { try result.get() }
            #expect(error?.description == "rank 2 has beta 10, rank 0 100: start all ranks alike")
        }
    }

    /// One has left: the others say who, and are not held up again.
    @Test(arguments: [0, 1, 2]) func theEndOfARankIsSeen(leaver: Int) throws {
        let results = try onRanks(3) { team -> [String] in
            if team.rank == leaver { return [] }
            return try (0..<2).map { _ in
                let error = #expect(throws: TeamError.self) { try team.together("work") { _ = try team.exchange("step", 0) } }
                return try #require(error).description
            }
        }
        for (rank, result) in results.enumerated() where rank != leaver {
            let errors = try result.get()
            #expect(errors[0].hasPrefix("rank \(leaver) has ended or cannot be reached"), "\(errors)")
            #expect(errors[0] == errors[1])
        }
    }

    @Test func whoIsMissingIsNamed() throws {
        let host = try SharedTable(host: "127.0.0.1", port: 0, hosts: true, name: "test", patience: 60)
        let error = #expect(throws: TeamError.self) { try Team(at: host, rank: 0, count: 3, patience: 0.1) }
        #expect(error?.description.hasPrefix("rank 1, 2 of 3 has not come") == true)
    }

    /// The bits of the sum do not depend on the number of ranks.
    @Test func sumsAreInOneOrder() throws {
        @Sendable func vector(_ group: Int) -> Tensor {
            Tensor.randn([11], generator: Generator(seed: UInt64(group))) * pow(10, Double(group % 5))
        }
        func sums(_ count: Int) throws -> [[Int: [Float]]] {
            try onRanks(count) { team in
                var sums: [Int: [Float]] = [:]
                for groups in count...9 {
                    var sum = OrderedSum(count: groups)
                    for group in team.share(of: groups) { sum.add(vector(group), of: group) }
                    sums[groups] = try sum.total(team).array()
                }
                return sums
            }.map { try $0.get() }
        }
        let alone = try sums(1)[0]
        for count in 2...5 {
            for sums in try sums(count) { for (groups, sum) in sums { #expect(sum == alone[groups], "\(groups) groups, \(count) ranks") } }
        }
    }

    @Test func launchersAreUnderstood() throws {
        func launch(_ environment: [String: String]) throws -> [Int]? {
            try Launch(environment: environment).map { [$0.rank, $0.count, $0.localRank, $0.localCount, $0.port] }
        }
        #expect(try launch([:]) == nil)
        #expect(try launch(["RANK": "0", "WORLD_SIZE": "1"]) == nil)
        #expect(try launch(["SLURM_PROCID": "0", "SLURM_NTASKS": "4"]) == nil)  // a batch script
        let torchrun = ["RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "7"]
        #expect(try launch(torchrun) == [3, 4, 1, 2, 7])
        let openMPI = ["OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "1"]
        #expect(try launch(openMPI.merging(["OMPI_COMM_WORLD_LOCAL_SIZE": "2"]) { $1 }) == [1, 2, 1, 2, 29500])
        #expect(throws: ConfigurationError.self) { try launch(openMPI.merging(["OMPI_COMM_WORLD_LOCAL_SIZE": "1"]) { $1 }) }
        let slurm = ["SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_LOCALID": "0", "MASTER_ADDR": "a"]
        #expect(try launch(slurm) == [1, 2, 0, 1, 29500])
        #expect(throws: ConfigurationError.self) { try launch(["RANK": "4", "WORLD_SIZE": "4", "MASTER_ADDR": "a"]) }
    }

    /// One process for each core or GPU, as far as they share the groups evenly.
    @Test func processesForAMachine() {
        func count(
            cores: Int, gpus: String = "", groups: Int = 4, hasCUDA: Bool = true, _ change: (inout TrainingConfiguration) -> Void = { _ in }
        ) -> Int {
            let configuration = smallConfiguration {
                ($0.device, $0.gradientAccumulationSteps) = (.auto, groups)
                change(&$0)
            }
            return Launch.processes(for: configuration, environment: ["CUDA_VISIBLE_DEVICES": gpus], cores: cores, hasCUDA: hasCUDA)
        }
        #expect([1, 2, 3, 4, 64].map { count(cores: $0) } == [1, 2, 2, 4, 4])
        #expect([1, 5, 6, 64].map { count(cores: 4, groups: $0) } == [1, 3, 3, 4])
        #expect([1, 2, 3, 8].map { threads in count(cores: 4) { $0.threads = threads } } == [4, 2, 1, 1])
        #expect(count(cores: 16, gpus: "0") == 1 && count(cores: 1, gpus: "4,5,6") == 2)
        #expect(count(cores: 2, gpus: "-1") == 2 && count(cores: 2, gpus: "0,-1,1") == 1)
        #expect(count(cores: 2, gpus: "0", hasCUDA: false) == 2)
        #expect(count(cores: 2, gpus: "0,1,2,3") { $0.device = .cpu } == 2)
    }
}

/// A run is the same bytes on any number of ranks.
@Suite struct TeamTrainingTests {
    struct Case: Sendable, CustomTestStringConvertible {
        let testDescription: String
        var reward = RewardSpecification(library: "picky")
        /// The sample that the reward cannot score.
        var failing: UInt64?
        var ranks = [3]
        let change: @Sendable (inout TrainingConfiguration) -> Void
    }

    private static func specification(_ text: String) -> RewardSpecification { try! RewardSpecification("picky," + text) }

    static let cases = [
        Case(testDescription: "dag-db, normalised", reward: specification("normalize=true"), ranks: [2, 3, 4]) { $0.algorithm = .dagDB },
        Case(testDescription: "dag-db, anchored") { ($0.algorithm, $0.target) = (.dagDB, .anchored) },
        Case(testDescription: "dag-kl, current, impute", reward: specification("on_failure=impute:0.5"), failing: 5) {
            ($0.algorithm, $0.forwardLooking) = (.dagKL, .current)
        },
        Case(testDescription: "dag-tb, drop", reward: specification("on_failure=drop"), failing: 20) { $0.algorithm = .dagTB },
        Case(testDescription: "dag-subtb, flow at some states") { ($0.algorithm, $0.steps, $0.flowEvery) = (.dagSubTB, 3, 2) },
        Case(testDescription: "dag-vargrad, drop", reward: specification("on_failure=drop"), failing: 7) {
            ($0.algorithm, $0.imagesPerPrompt) = (.dagVarGrad, 2)
        },
        Case(testDescription: "dag-replay, drop", reward: specification("on_failure=drop"), failing: 5) {
            ($0.algorithm, $0.target, $0.replayUpdates) = (.dagReplay, .anchored, 2)
        },
        Case(testDescription: "dag-nabla") {
            ($0.algorithm, $0.target, $0.flowUpdates, $0.replayUpdates) = (.dagNabla, .anchored, 1, 1)
        },
        Case(testDescription: "ddpo, per-prompt statistics, half of the transitions") {
            ($0.algorithm, $0.perPromptStatistics, $0.timestepFraction) = (.ddpo, true, 0.5)
        },
        Case(testDescription: "grpo, drop", reward: specification("on_failure=drop"), failing: 6) {
            ($0.algorithm, $0.imagesPerPrompt, $0.baseKlCoefficient) = (.grpo, 4, 0.1)
        },
    ]

    /// Four groups of three trajectories an optimiser step, and batches of three everywhere.
    private static func configuration(_ change: (inout TrainingConfiguration) -> Void) -> TrainingConfiguration {
        smallConfiguration {
            ($0.epochs, $0.steps, $0.sampleBatchSize, $0.batchesPerEpoch) = (2, 2, 3, 4)
            ($0.trainBatchSize, $0.gradientAccumulationSteps, $0.maxRowsPerPass) = (3, 4, 6)
            ($0.evaluationSamples, $0.sampleEvery) = (6, 2)
            change(&$0)
        }
    }

    private static func trainer(_ it: Case, _ team: Team, _ output: OutputFolder) throws -> Trainer {
        let configuration = configuration(it.change)
        let failing = it.failing
        // What metadata makes of a score.
        let factors: [String: Float] = ["{\"factor\":1}": 1, "{\"factor\":1.25}": 1.25]
        let reward = CallbackReward(name: "picky") { batch in
            (0..<batch.count).map { k in
                guard let factor = factors[batch.prompts[k].metadata], batch.sampleIDs[k] != failing else { return .nan }
                return factor * brightness(batch, k)
            }
        }
        let all = try PromptSet.load(configuration.prompts)
        let prompts = all.prompts.enumerated().map { Prompt($1.text, metadata: factors.keys.sorted()[$0 % 2]) }
        return try Trainer(
            configuration, model: DiffusionPipeline(folder: configuration.model, dtype: .float32, device: .cpu),
            evaluator: RewardEvaluator([(it.reward, reward)]), prompts: PromptSet(name: all.name, prompts: prompts), output: output,
            team: team)
    }

    /// What a run has written, but for times.
    private struct Written: Equatable {
        var files: [String: Data] = [:]
        var metrics: [String] = []
        var checkpoint: [String: [Float]] = [:]
        var state = ""

        init(_ output: OutputFolder) throws {
            for file in [output.lora, output.sampleSheet(epoch: 2)] { files[file.lastPathComponent] = try Data(contentsOf: file) }
            metrics = try String(contentsOf: output.metrics, encoding: .utf8).split(separator: "\n").map {
                String($0).replacing(/,"(transitions_per_second|scoring_share)":[0-9.]+/, with: "")
            }
            let name = try #require(FileManager.default.contentsOfDirectory(atPath: output.checkpoints.path).max())
            let stored = try Safetensors(contentsOf: output.checkpoints.appendingPathComponent(name))
            // The checksum is of all bytes, and the length of metrics.jsonl depends on times.
            checkpoint = try stored.tensors.filter { $0.key != "~crc32" }.mapValues { try $0.array() }
            state = (stored.metadata["dag_checkpoint"] ?? "").replacing(/"metricsLength":[0-9]+/, with: "")
        }
    }

    private static func folder(_ folder: TemporaryFolder, _ name: String) throws -> OutputFolder {
        let output = OutputFolder(folder.url.appendingPathComponent(name).path)
        try output.prepare()
        return output
    }

    @Test(.slow, arguments: cases) func bytesDoNotDependOnRanks(it: Case) throws {
        let folder = try TemporaryFolder()
        var alone: Written?
        for count in [1] + it.ranks {
            let output = try Self.folder(folder, "\(count)")
            for result in try onRanks(
                count,
                { team in
                    // Kernels that share a batch out to threads round by its shape.
                    Torch.threads = 2
                    let trainer = try Self.trainer(it, team, output)
                    try trainer.run()
                    return try trainer.evaluate().rewardMean
                })
            { _ = try result.get() }
            let written = try Written(output)
            let steps = Self.configuration(it.change)
            #expect(written.metrics.count { !$0.contains(#""warning":"#) } == steps.epochs * steps.updatesPerEpoch + 1)
            if let alone { #expect(written == alone, "\(count) ranks") } else { alone = written }
        }
    }

    /// A run that stops on two ranks in the middle of an epoch goes on with any number of them, to the same
    /// bytes.
    @Test(.slow) func runsGoOnWithOtherNumbers() throws {
        // Two optimiser steps an epoch.
        let it = Case(testDescription: "") { ($0.algorithm, $0.perPromptStatistics, $0.batchesPerEpoch) = (.ddpo, true, 8) }
        let folder = try TemporaryFolder()
        let whole = try Self.folder(folder, "whole")
        for result in try onRanks(1, { team in try Self.trainer(it, team, whole).run() }) { try result.get() }
        let stopped = try Self.folder(folder, "stopped")
        for result in try onRanks(
            2,
            { team in
                let trainer = try Self.trainer(it, team, stopped)
                try trainer.rollOut()
                try trainer.score()
                try trainer.update()
                try trainer.save()
            })
        { try result.get() }
        for count in [1, 4] {
            let copy = OutputFolder(folder.url.appendingPathComponent("from \(count)").path)
            try FileManager.default.copyItem(at: stopped.url, to: copy.url)
            for result in try onRanks(
                count,
                { team in
                    let trainer = try Self.trainer(it, team, copy)
                    try trainer.resume(from: copy)
                    #expect(trainer.updatesDone == 1)
                    try trainer.run()
                })
            { try result.get() }
            #expect(try Written(copy) == Written(whole), "\(count) ranks")
        }
    }

    /// A cancellation on one rank ends the same call on all, and the same call made again goes on.
    @Test(.slow, arguments: [0, 1]) func cancellationLeavesNoTrace(who: Int) throws {
        let it = Self.cases[2]
        let folder = try TemporaryFolder()
        let whole = try Self.folder(folder, "whole")
        for result in try onRanks(1, { team in try Self.trainer(it, team, whole).run() }) { try result.get() }
        let output = try Self.folder(folder, "cancelled")
        let cancellations = try onRanks(
            2,
            { team in
                let trainer = try Self.trainer(it, team, output)
                let reports = Mutex(0)
                // In a rollout, an update, and while the other is waited for.
                trainer.monitor.onProgress = { [monitor = trainer.monitor] _, _, _ in
                    let number = reports.withLock { reports in
                        reports += 1
                        return reports
                    }
                    if team.rank == who, [1, 4, 12].contains(number) { monitor.cancel() }
                }
                var cancellations = 0
                while trainer.epochsDone < 2 {
                    do { try trainer.runEpoch() } catch is Cancelled {
                        cancellations += 1
                        trainer.monitor.clearCancellation()
                    }
                }
                try trainer.record()
                return cancellations
            }
        ).map { try $0.get() }
        // Fewer than three where several fall into one wait.
        #expect(1...3 ~= cancellations[0] && cancellations[0] == cancellations[1])
        #expect(try Data(contentsOf: output.lora) == Data(contentsOf: whole.lora))
    }

    @Test func moreRanksThanGroupsAreRefused() throws {
        let results = try onRanks(2) { team in
            try smallConfiguration { $0.gradientAccumulationSteps = 1 }.validate(for: team)
        }
        for result in results { #expect(throws: ConfigurationError.self) { try result.get() } }
    }
}
