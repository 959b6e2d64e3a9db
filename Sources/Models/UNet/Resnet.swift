import NN
import Tensors

/// diffusers' ResnetBlock2D.
struct ResnetBlock2D {
    private let norm1, norm2: GroupNorm
    private let conv1, conv2: Conv2d
    private let timeProjection: Linear?
    private let shortcut: Conv2d?

    /// - Parameter timeChannels: the width of the time embedding; nil in autoencoders.
    init(_ input: Int, _ output: Int, timeChannels: Int?, groups: Int, eps: Double, _ scope: Scope) {
        norm1 = GroupNorm(groups, input, eps: eps, scope / "norm1")
        conv1 = Conv2d(input, output, kernel: 3, padding: 1, scope / "conv1")
        timeProjection = timeChannels.map { Linear($0, output, scope / "time_emb_proj") }
        norm2 = GroupNorm(groups, output, eps: eps, scope / "norm2")
        conv2 = Conv2d(output, output, kernel: 3, padding: 1, scope / "conv2")
        shortcut = input == output ? nil : Conv2d(input, output, kernel: 1, scope / "conv_shortcut")
    }

    /// Maps [B, in, H, W] to [B, out, H, W].
    /// - Parameter time: the SiLU of the time embedding, [B, timeChannels].
    func callAsFunction(_ x: Tensor, time: Tensor?) -> Tensor {
        // The sum is outside: it keeps nothing, and x's gradients are added up in the same order.
        let h = checkpointed(time.map { [x, $0] } ?? [x]) { inputs in
            var h = conv1(norm1(inputs[0]).silu())
            if let timeProjection, let time = inputs.dropFirst().first { h = h + timeProjection(time).unsqueeze(2).unsqueeze(3) }
            return conv2(norm2(h).silu())
        }
        return (shortcut?(x) ?? x) + h
    }
}

/// diffusers' Downsample2D: a convolution of stride 2. Padding
/// 0 stands for one row and column of zeros at the far edges.
struct Downsample2D {
    private let conv: Conv2d
    private let padding: Int

    init(_ channels: Int, padding: Int, _ scope: Scope) {
        conv = Conv2d(channels, channels, kernel: 3, stride: 2, padding: padding, scope / "conv")
        self.padding = padding
    }

    func callAsFunction(_ x: Tensor) -> Tensor { conv(padding == 0 ? x.pad([0, 1, 0, 1]) : x) }
}

/// diffusers' Upsample2D: nearest neighbour, then a convolution.
struct Upsample2D {
    private let conv: Conv2d

    init(_ channels: Int, _ scope: Scope) { conv = Conv2d(channels, channels, kernel: 3, padding: 1, scope / "conv") }

    /// - Parameter size: the height and width of the result; nil for twice the input's.
    func callAsFunction(_ x: Tensor, size: (Int, Int)?) -> Tensor {
        let size = size ?? (x.size(2) * 2, x.size(3) * 2)
        return conv(x.upsampleNearest(height: size.0, width: size.1))
    }
}
