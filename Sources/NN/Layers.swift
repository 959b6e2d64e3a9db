import Tensors

// PyTorch's layers. Weights are converted to the input's type on
// use, as autocast does with float32 weights under a bfloat16 input.

/// A layer with room for a low-rank adapter.
package protocol AdaptableLayer: AnyObject {
    /// The adapter that is added to the output, if any.
    var lora: LoRA? { get set }
    /// Shapes of an adapter's tensors for a rank: of `LoRA.a`, to the inner features, and of `LoRA.b`, from these.
    func adapterShapes(rank: Int) -> (a: [Int], b: [Int])
}

/// torch.nn.Linear, with room for a low-rank adapter.
package final class Linear: AdaptableLayer {
    let weight: Tensor
    let bias: Tensor?
    package var lora: LoRA?

    /// Reads the keys `weight` [output, input] and `bias` [output].
    package init(_ input: Int, _ output: Int, bias: Bool = true, _ scope: Scope) {
        weight = scope.parameter("weight", [output, input], .fanIn(input))
        self.bias = bias ? scope.parameter("bias", [output], .fanIn(input)) : nil
        scope.store.layers[scope.path] = self
    }

    package func adapterShapes(rank: Int) -> (a: [Int], b: [Int]) { ([rank, weight.size(1)], [weight.size(0), rank]) }

    /// Maps [..., in] to [..., out].
    package func callAsFunction(_ x: Tensor) -> Tensor {
        let weight = weight.to(x.dtype)
        let bias = bias?.to(x.dtype)
        guard let lora, lora.isEnabled else { return x.linear(weight, bias) }
        return x.linear(weight, bias, adapter: (lora.a.to(x.dtype), lora.b.to(x.dtype)), scale: lora.scale)
    }
}

/// torch.nn.Conv2d with a square kernel, with room for a low-rank adapter.
package final class Conv2d: AdaptableLayer {
    let weight: Tensor
    let bias: Tensor?
    package var lora: LoRA?
    let stride: Int
    let padding: Int

    /// Reads the keys `weight` [output, input, kernel, kernel] and `bias` [output].
    package init(_ input: Int, _ output: Int, kernel: Int, stride: Int = 1, padding: Int = 0, bias: Bool = true, _ scope: Scope) {
        weight = scope.parameter("weight", [output, input, kernel, kernel], .fanIn(input * kernel * kernel))
        self.bias = bias ? scope.parameter("bias", [output], .fanIn(input * kernel * kernel)) : nil
        self.stride = stride
        self.padding = padding
        scope.store.layers[scope.path] = self
    }

    /// The first convolution is like the layer's own, the second of 1x1.
    package func adapterShapes(rank: Int) -> (a: [Int], b: [Int]) {
        ([rank] + weight.shape.dropFirst(), [weight.size(0), rank, 1, 1])
    }

    /// Maps [B, in, H, W] to [B, out, H', W'].
    package func callAsFunction(_ x: Tensor) -> Tensor {
        let output = x.conv2d(weight.to(x.dtype), bias?.to(x.dtype), stride: stride, padding: padding)
        guard let lora, lora.isEnabled else { return output }
        let inner = x.conv2d(lora.a.to(x.dtype), nil, stride: stride, padding: padding)
        return output + inner.conv2d(lora.b.to(x.dtype), nil) * lora.scale
    }
}

/// torch.nn.GroupNorm.
package struct GroupNorm {
    let weight: Tensor
    let bias: Tensor
    let groups: Int
    let eps: Double

    /// Reads the keys `weight` and `bias` [channels].
    package init(_ groups: Int, _ channels: Int, eps: Double, _ scope: Scope) {
        weight = scope.parameter("weight", [channels], .ones)
        bias = scope.parameter("bias", [channels], .zeros)
        self.groups = groups
        self.eps = eps
    }

    /// Keeps the shape [B, C, ...].
    package func callAsFunction(_ x: Tensor) -> Tensor {
        x.groupNorm(groups: groups, weight: weight.to(x.dtype), bias: bias.to(x.dtype), eps: eps)
    }
}

/// torch.nn.LayerNorm over the last dimension.
package struct LayerNorm {
    let weight: Tensor
    let bias: Tensor
    let eps: Double

    /// Reads the keys `weight` and `bias` [size].
    package init(_ size: Int, eps: Double = 1e-5, _ scope: Scope) {
        weight = scope.parameter("weight", [size], .ones)
        bias = scope.parameter("bias", [size], .zeros)
        self.eps = eps
    }

    /// Keeps the shape [..., size].
    package func callAsFunction(_ x: Tensor) -> Tensor {
        x.layerNorm(weight: weight.to(x.dtype), bias: bias.to(x.dtype), eps: eps)
    }
}

/// torch.nn.Embedding.
package struct Embedding {
    let weight: Tensor

    /// Reads the key `weight` [count, size].
    package init(_ count: Int, _ size: Int, _ scope: Scope) { weight = scope.parameter("weight", [count, size], .normal(1)) }

    /// Maps int64 indices of any shape [...] to [..., size].
    package func callAsFunction(_ indices: Tensor) -> Tensor { weight.embedding(indices) }
}

/// The activations that published configurations name.
package enum Activation: String, Sendable {
    case silu, swish, gelu, relu
    case quickGELU = "quick_gelu"

    /// Applies the activation to each element.
    package func callAsFunction(_ x: Tensor) -> Tensor {
        switch self {
        case .silu, .swish: x.silu()
        case .gelu: x.gelu()
        case .relu: x.clamp(0, .infinity)
        case .quickGELU: x * (x * 1.702).sigmoid()
        }
    }
}
