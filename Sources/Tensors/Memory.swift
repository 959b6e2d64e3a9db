import CTorch
import Foundation

/// The memory of a device, as this process uses it.
package struct Memory {
    /// The most bytes that were in use at once since `resetPeak`.
    package let peak: Int
    /// All bytes that there are: the machine's, or those that its control group allows; the GPU's.
    package let total: Int

    /// Reads the numbers.
    /// - Throws: `TensorError`.
    package init(of device: Device) throws {
        if device == .cuda {
            var (peak, total): (Int64, Int64) = (0, 0)
            ct_cuda_memory(&peak, &total)
            try TensorError.check()
            self.peak = Int(peak)
            self.total = Int(total)
        } else {
            let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
            let line = status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") }
            peak = line.flatMap { $0.split(separator: " ").dropFirst().first }.flatMap { Int($0) }.map { $0 << 10 } ?? 0
            let limit = try? String(contentsOfFile: "/sys/fs/cgroup/memory.max", encoding: .utf8)
            let machine = sysconf(Int32(_SC_PHYS_PAGES)) * sysconf(Int32(_SC_PAGESIZE))
            total = min(machine, limit.flatMap { Int($0.trimmingCharacters(in: .whitespacesAndNewlines)) } ?? machine)
        }
    }

    /// Forgets the most that was in use.
    package static func resetPeak(of device: Device) {
        if device == .cuda { return ct_cuda_reset_peak_memory() }
        try? "5".write(toFile: "/proc/self/clear_refs", atomically: false, encoding: .utf8)
    }
}
