import Foundation
import Tensors

/// What a launcher has told this process: which of how many it is, and where they meet.
package struct Launch {
    /// The number of this process, from 0, and how many there are.
    let rank, count: Int
    /// The same among the processes on this machine.
    let localRank, localCount: Int
    /// Where they meet: rank 0 listens there, or the launcher.
    let host: String
    let port: Int
    let isHostedByLauncher: Bool
    /// Whether dag-train has started the processes, so that no launcher has bound them to cores.
    private let isOwn: Bool
    /// Keeps jobs at the same address apart, and attempts at the same job.
    let job: String

    /// Whether torchrun has started all anew after a failure.
    package static var isRestart: Bool { attempt(ProcessInfo.processInfo.environment) != "0" }

    private static func attempt(_ environment: [String: String]) -> String { environment["TORCHELASTIC_RESTART_COUNT"] ?? "0" }

    /// The variables of a launcher: rank, count, rank and count on this machine.
    private typealias Variables = (rank: String, count: String, localRank: String, localCount: String)

    private static let launchers: [Variables] = [
        ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),  // torchrun
        ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"),  // Open MPI
        ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),  // MPICH, Intel MPI
        // A batch script has SLURM_NTASKS too, but only what srun starts has a step.
        ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_STEP_TASKS_PER_NODE"),
    ]

    /// Reads the variables of torchrun, mpirun or srun.
    /// - Returns: nil if this process is the only one.
    /// - Throws: `ConfigurationError` if they do not say where the processes meet.
    package init?(environment: [String: String]) throws {
        func number(_ name: String) -> Int? { environment[name].flatMap(Int.init) }
        guard let variables = Self.launchers.first(where: { number($0.rank) != nil && number($0.count) != nil }),
            let rank = number(variables.rank), let count = number(variables.count), count > 1
        else { return nil }
        guard 0..<count ~= rank else {
            throw ConfigurationError("\(variables.rank) is \(rank), but \(variables.count) is \(count): ranks go from 0 to \(count - 1)")
        }
        self.rank = rank
        self.count = count
        localRank = number(variables.localRank) ?? 0
        localCount = number(variables.localCount) ?? 1
        guard let host = environment["MASTER_ADDR"] ?? (localCount == count ? "127.0.0.1" : nil) else {
            throw ConfigurationError("MASTER_ADDR is missing: set it to the address of rank 0's machine on every rank")
        }
        self.host = host
        port = number("MASTER_PORT") ?? 29500
        isHostedByLauncher = environment["TORCHELASTIC_USE_AGENT_STORE"] == "True"
        isOwn = environment[Self.ownMark] != nil
        let names = ["TORCHELASTIC_RUN_ID", "PMIX_NAMESPACE", "SLURM_JOB_ID", "SLURM_STEP_ID"].compactMap { environment[$0] }
        job = (["dag"] + names + [Self.attempt(environment)]).joined(separator: "/")
    }

    /// Leaves this process its part of the machine, where there are several: its GPU, which its rewards'
    /// processes inherit, and its part of the CPU's threads. Before the first use of a GPU.
    private func takePartOfMachine() {
        guard localCount > 1 else { return }
        let machine = ProcessInfo.processInfo
        let gpus = Self.visibleGPUs(machine.environment)
        if gpus.count > 1 { setenv("CUDA_VISIBLE_DEVICES", gpus[localRank % gpus.count], 1) }
        // A launcher that binds processes to cores has divided them already.
        let isBound = !isOwn && machine.activeProcessorCount < machine.processorCount
        Torch.threads = max(1, machine.activeProcessorCount / (isBound ? 1 : localCount))
    }

    /// The numbers of the machine's GPUs. CUDA, if it were asked, would not look at CUDA_VISIBLE_DEVICES again.
    private static var nvidiaDevices: [String] {
        let files = (try? FileManager.default.contentsOfDirectory(atPath: "/dev")) ?? []
        return files.filter { $0.hasPrefix("nvidia") }.compactMap { Int($0.dropFirst("nvidia".count)) }.sorted().map(String.init)
    }

    /// Returns the number of processes that use this machine well: one for each GPU or, without GPUs, for each CPU core
    /// or as many cores as a process is to have threads; no more than shorten an optimiser step.
    /// - Parameters:
    ///   - configuration: the settings of the run.
    ///   - environment: that of this process.
    ///   - cores: those that this process may use.
    ///   - hasCUDA: whether this libtorch can use GPUs.
    package static func processes(
        for configuration: TrainingConfiguration, environment: [String: String] = ProcessInfo.processInfo.environment,
        cores: Int = ProcessInfo.processInfo.activeProcessorCount, hasCUDA: Bool = Device.hasCUDALibrary
    ) -> Int {
        let gpus = configuration.device == .cpu || !hasCUDA ? [] : visibleGPUs(environment)
        let most = gpus.isEmpty ? cores / max(1, configuration.threads) : gpus.count
        let groups = configuration.gradientAccumulationSteps
        func share(_ count: Int) -> Int { (groups + count - 1) / count }
        return share(share(max(1, min(most, groups))))
    }

    /// The GPUs that this process may use. CUDA sees those before the first that is not there, such as -1.
    private static func visibleGPUs(_ environment: [String: String]) -> [String] {
        guard let chosen = environment["CUDA_VISIBLE_DEVICES"] else { return nvidiaDevices }
        return chosen.split(separator: ",").map(String.init).prefix { !$0.hasPrefix("-") }.map { $0 }
    }

    /// Opens the table at which the processes meet.
    /// - Throws: `TeamError`.
    private func openTable() throws -> SharedTable {
        let isHost = rank == 0 && !isHostedByLauncher
        do { return try SharedTable(host: host, port: port, hosts: isHost, name: job, patience: Team.patience) } catch let error
            as TensorError
        {
            let remedy =
                isHost ? "set MASTER_PORT to a port that is free" : "start all ranks together, with the same MASTER_ADDR and MASTER_PORT"
            throw TeamError("rank \(rank) of \(count) cannot meet the others at \(host):\(port) (\(error.firstLine)): \(remedy)")
        }
    }

    /// Meets the others.
    /// - Parameter startOthers: called when they are expected, with the port.
    /// - Throws: `TeamError`, or an error of `startOthers`.
    fileprivate func team(startOthers: (_ port: Int) throws -> Void = { _ in }) throws -> Team {
        takePartOfMachine()
        let table = try openTable()
        try startOthers(table.port)
        return try Team(at: table, rank: rank, count: count)
    }

    /// Set for processes that dag-train has started itself.
    private static let ownMark = "DAG_PROCESSES"

    /// The variables that torchrun would give to the processes of this machine.
    fileprivate static func variables(rank: Int, of count: Int, port: Int) -> [String: String] {
        [
            "RANK": "\(rank)", "WORLD_SIZE": "\(count)", "LOCAL_RANK": "\(rank)", "LOCAL_WORLD_SIZE": "\(count)",
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "\(port)", "TORCHELASTIC_USE_AGENT_STORE": "False", ownMark: "\(count)",
        ]
    }
}

extension Team {
    /// The processes that a launcher has started, and of which the environment tells; one if there was none.
    /// - Throws: `ConfigurationError` if the environment lacks something, `TeamError`.
    package static func launched(environment: [String: String] = ProcessInfo.processInfo.environment) throws -> Team {
        try Launch(environment: environment)?.team() ?? Team()
    }

    /// The processes that meet at an address, of which rank 0's machine has it.
    /// - Throws: `TeamError`.
    package static func meeting(rank: Int, of count: Int, host: String, port: Int) throws -> Team {
        try Launch(environment: [
            "RANK": "\(rank)", "WORLD_SIZE": "\(count)", "MASTER_ADDR": host, "MASTER_PORT": "\(port)",
        ])?.team() ?? Team()
    }

    /// Some processes on this machine, of which this is rank 0.
    /// - Parameter start: starts another, with these variables in its environment, which then calls
    ///   `launched`.
    /// - Throws: `TeamError`, or an error of `start`.
    package static func local(_ count: Int, start: (_ variables: [String: String]) throws -> Void) throws -> Team {
        let environment = ProcessInfo.processInfo.environment
        // Port 0: one that is free.
        let own = try Launch(environment: environment.merging(Launch.variables(rank: 0, of: count, port: 0)) { $1 })
        return try own?.team { port in
            for rank in 1..<count { try start(Launch.variables(rank: rank, of: count, port: port)) }
        } ?? Team()
    }
}
