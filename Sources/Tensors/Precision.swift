import Foundation
import Tensors

/// Type that the frozen networks compute in. Kernels, log-probabilities, losses and adapters are float32 in any case.
public enum Precision: String, Codable, CaseIterable, Sendable {
    case auto, fp32, bf16
}

extension Precision {
    /// `auto` is bfloat16 where the hardware multiplies it: CUDA, and CPUs with AVX512-BF16 or AMX.
    public func resolve(on device: Device) -> DType {
        switch self {
        case .fp32: return .float32
        case .bf16: return .bfloat16
        case .auto:
            if device == .cuda { return .bfloat16 }
            let cpu = (try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)) ?? ""
            return cpu.contains("avx512_bf16") || cpu.contains("amx_bf16") ? .bfloat16 : .float32
        }
    }
}
