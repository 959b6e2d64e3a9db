import NN
import Tensors

/// diffusers' Attention: multi-head self- or cross-attention.
struct Attention {
    private let toQ, toK, toV, toOut: Linear
    private let heads: Int

    /// - Parameters:
    ///   - channels: the width of the queries and of the result.
    ///   - context: the width of the input of keys and values; nil for self-attention.
    init(_ channels: Int, context: Int? = nil, heads: Int, bias: Bool, _ scope: Scope) {
        toQ = Linear(channels, channels, bias: bias, scope / "to_q")
        toK = Linear(context ?? channels, channels, bias: bias, scope / "to_k")
        toV = Linear(context ?? channels, channels, bias: bias, scope / "to_v")
        toOut = Linear(channels, channels, scope / "to_out" / 0)
        self.heads = heads
    }

    /// Keeps the shape of `x`.
    /// - Parameters:
    ///   - x: [B, L, channels].
    ///   - context: [B, M, context width]; nil for self-attention.
    func callAsFunction(_ x: Tensor, context: Tensor? = nil) -> Tensor {
        let source = context ?? x
        return toOut(Tensor.attention(toQ(x), toK(source), toV(source), heads: heads))
    }
}

/// The self-attention of pixel-space U-Nets and autoencoders:
/// group norm, attention over all pixels, residual.
struct SpatialAttention {
    private let norm: GroupNorm
    private let attention: Attention

    init(_ channels: Int, heads: Int, groups: Int, eps: Double, _ scope: Scope) {
        norm = GroupNorm(groups, channels, eps: eps, scope / "group_norm")
        attention = Attention(channels, heads: heads, bias: true, scope)
    }

    /// Keeps the shape [B, C, H, W].
    func callAsFunction(_ x: Tensor) -> Tensor {
        let attended = checkpointed([x]) { inputs in
            let x = inputs[0]
            let tokens = norm(x).reshape([x.size(0), x.size(1), x.size(2) * x.size(3)]).transpose(1, 2)
            return attention(tokens).transpose(1, 2).reshape(x.shape)
        }
        return attended + x
    }

    /// Translates a key of deprecated attention blocks, which the
    /// published SD 1.x autoencoder and ddpm-cifar10-32 have.
    static func currentKey(_ key: String) -> String {
        [("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0")].reduce(key) {
            $0.replacing(".\($1.0).", with: ".\($1.1).")
        }
    }
}

/// diffusers' BasicTransformerBlock: self-attention, cross-attention,
/// gated feed-forward, each with layer norm and residual.
private struct BasicTransformerBlock {
    private let norm1, norm2, norm3: LayerNorm
    private let attn1, attn2: Attention
    private let projection, output: Linear

    init(_ channels: Int, context: Int, heads: Int, _ scope: Scope) {
        norm1 = LayerNorm(channels, scope / "norm1")
        attn1 = Attention(channels, heads: heads, bias: false, scope / "attn1")
        norm2 = LayerNorm(channels, scope / "norm2")
        attn2 = Attention(channels, context: context, heads: heads, bias: false, scope / "attn2")
        norm3 = LayerNorm(channels, scope / "norm3")
        projection = Linear(channels, 8 * channels, scope / "ff" / "net" / 0 / "proj")
        output = Linear(4 * channels, channels, scope / "ff" / "net" / 2)
    }

    func callAsFunction(_ x: Tensor, context: Tensor) -> Tensor {
        var x = attn1(norm1(x)) + x
        x = attn2(norm2(x), context: context) + x
        let gated = projection(norm3(x)).chunk(2, -1 + x.rank)
        return output(gated[0] * gated[1].gelu()) + x
    }
}

/// diffusers' Transformer2DModel for continuous input.
struct Transformer2DModel {
    private enum Projection {
        case linear(Linear, Linear)
        case convolution(Conv2d, Conv2d)
    }

    private let norm: GroupNorm
    private let projection: Projection
    private let blocks: [BasicTransformerBlock]

    init(_ channels: Int, context: Int, heads: Int, layers: Int, groups: Int, linear: Bool, _ scope: Scope) {
        norm = GroupNorm(groups, channels, eps: 1e-6, scope / "norm")
        projection =
            linear
            ? .linear(Linear(channels, channels, scope / "proj_in"), Linear(channels, channels, scope / "proj_out"))
            : .convolution(
                Conv2d(channels, channels, kernel: 1, scope / "proj_in"), Conv2d(channels, channels, kernel: 1, scope / "proj_out"))
        blocks = (0..<layers).map {
            BasicTransformerBlock(channels, context: context, heads: heads, scope / "transformer_blocks" / $0)
        }
    }

    /// Keeps the shape of `x`.
    /// - Parameters:
    ///   - x: [B, C, H, W].
    ///   - context: [B, M, context width].
    func callAsFunction(_ x: Tensor, context: Tensor) -> Tensor {
        checkpointed([x, context]) { branch($0[0], context: $0[1]) } + x
    }

    /// Returns what is added to `x`.
    private func branch(_ x: Tensor, context: Tensor) -> Tensor {
        func tokens(_ y: Tensor) -> Tensor {
            y.permute([0, 2, 3, 1]).reshape([x.size(0), x.size(2) * x.size(3), x.size(1)])
        }
        func image(_ y: Tensor) -> Tensor {
            y.reshape([x.size(0), x.size(2), x.size(3), x.size(1)]).permute([0, 3, 1, 2]).contiguous(like: x)
        }
        func through(_ y: Tensor) -> Tensor { blocks.reduce(y) { $1($0, context: context) } }
        switch projection {
        case .linear(let input, let output): return image(output(through(input(tokens(norm(x))))))
        case .convolution(let input, let output): return output(image(through(tokens(input(norm(x))))))
        }
    }
}
