import Foundation
import NN
import Tensors

/// The sinusoidal embedding of timesteps (diffusers' get_timestep_embedding with maximum period 10000).
package struct Timesteps {
    private let channels: Int
    private let flipSinToCos: Bool
    /// float32 [channels / 2], on the device of the last call, since a copy at each call would wait for it.
    private let frequencies: Kept

    private final class Kept {
        var tensor: Tensor
        init(_ tensor: Tensor) { self.tensor = tensor }
    }

    /// - Parameters:
    ///   - channels: the width of the embedding.
    ///   - flipSinToCos: whether cosines come before sines.
    ///   - shift: a correction of the frequencies' spacing (`freq_shift`).
    package init(channels: Int, flipSinToCos: Bool, shift: Double) {
        self.channels = channels
        self.flipSinToCos = flipSinToCos
        let half = channels / 2
        let exponent = Tensor.arange(half).to(.float32) * (-Foundation.log(10000.0) / (Double(half) - shift))
        frequencies = Kept(exponent.exp())
    }

    /// Maps [B] to float32 [B, channels].
    package func callAsFunction(_ timesteps: Tensor) -> Tensor {
        frequencies.tensor = frequencies.tensor.to(timesteps.device)
        let angles = timesteps.to(.float32).unsqueeze(1) * frequencies.tensor.unsqueeze(0)
        let parts = flipSinToCos ? [angles.cos(), angles.sin()] : [angles.sin(), angles.cos()]
        let embedding = Tensor.cat(parts, 1)
        return channels % 2 == 1 ? embedding.pad([0, 1]) : embedding
    }
}

/// Two linear layers with SiLU between them (diffusers' TimestepEmbedding).
package struct TimestepEmbedding {
    let linear1: Linear
    let linear2: Linear

    /// Reads the keys `linear_1` and `linear_2`.
    package init(_ channels: Int, _ width: Int, _ scope: Scope) {
        linear1 = Linear(channels, width, scope / "linear_1")
        linear2 = Linear(width, width, scope / "linear_2")
    }

    /// Maps [B, channels] to [B, width].
    package func callAsFunction(_ x: Tensor) -> Tensor { linear2(linear1(x).silu()) }
}
