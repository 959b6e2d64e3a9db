// The models at the size at which they are published: equal to diffusers', how fast, and in how much memory.
import ArgumentParser
import Foundation
@testable import DAGCore
@testable import Tensors

struct ModelBenchmark: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "model-benchmark", subcommands: [Compare.self, Speed.self, Memory.self])
}

extension Precision: @retroactive ExpressibleByArgument {}
extension DeviceChoice: @retroactive ExpressibleByArgument {}

extension ContinuousClock.Instant {
    func milliseconds(since start: Self) -> Double {
        let passed = start.duration(to: self).components
        return Double(passed.seconds) * 1e3 + Double(passed.attoseconds) * 1e-15
    }
}

/// Peak resident memory of this process in MB.
func peakMegabytes() -> Int {
    let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
    let line = status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") }
    return (line?.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { Int($0) } ?? 0) / 1024
}

/// The median time of a call. Its result is read, which waits for the device.
func milliseconds(runs: Int, warmUps: Int = 2, _ call: () throws -> Tensor) throws -> Double {
    let times = try (0..<warmUps + runs).map { _ in
        let start = ContinuousClock.now
        _ = try call().mean().item()
        return ContinuousClock.now.milliseconds(since: start)
    }
    return times.dropFirst(warmUps).sorted()[runs / 2]
}

ModelBenchmark.main()
