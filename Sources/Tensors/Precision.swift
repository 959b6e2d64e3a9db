import Foundation

/// The setting for the type that frozen networks compute in. Kernels,
/// log-probabilities, losses and adapters are always float32.
package enum Precision: String, Codable, CaseIterable, Sendable {
    case auto, fp32, bf16
}

extension Precision: CustomStringConvertible {
    /// The setting that gives this type.
    package init(_ dtype: DType) { self = dtype == .float32 ? .fp32 : .bf16 }

    /// The setting's value.
    package var description: String { rawValue }

    /// Returns the type. `auto` is bfloat16 on CUDA and on
    /// CPUs that multiply it (AVX512-BF16, AMX), else float32.
    package func resolve(on device: Device) -> DType {
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
