import CTorch

// Every operation has PyTorch's name and meaning; none throws (see TensorError.check).

extension Tensor {
    private func map(_ operation: (ct_tensor) -> ct_tensor) -> Tensor { Tensor(owning: withHandle(operation)) }

    private static func combine(_ a: Tensor, _ b: Tensor, _ operation: (ct_tensor, ct_tensor) -> ct_tensor) -> Tensor {
        Tensor(owning: a.withHandle { left in b.withHandle { right in operation(left, right) } })
    }

    private static func withOptional<Result>(_ tensor: Tensor?, _ body: (ct_tensor?) -> Result) -> Result {
        guard let tensor else { return body(nil) }
        return tensor.withHandle(body)
    }
}

// MARK: Element by element

extension Tensor {
    public static func + (a: Tensor, b: Tensor) -> Tensor { combine(a, b, ct_add) }
    public static func - (a: Tensor, b: Tensor) -> Tensor { combine(a, b, ct_sub) }
    public static func * (a: Tensor, b: Tensor) -> Tensor { combine(a, b, ct_mul) }
    public static func / (a: Tensor, b: Tensor) -> Tensor { combine(a, b, ct_div) }
    public static func + (a: Tensor, b: Double) -> Tensor { a.map { ct_add_scalar($0, b) } }
    public static func - (a: Tensor, b: Double) -> Tensor { a.map { ct_add_scalar($0, -b) } }
    public static func * (a: Tensor, b: Double) -> Tensor { a.map { ct_mul_scalar($0, b) } }
    public static func / (a: Tensor, b: Double) -> Tensor { a.map { ct_mul_scalar($0, 1 / b) } }
    public static func * (a: Double, b: Tensor) -> Tensor { b * a }
    public static func - (a: Double, b: Tensor) -> Tensor { b.map { ct_rsub_scalar($0, a) } }
    public static prefix func - (a: Tensor) -> Tensor { a.map(ct_neg) }

    public func exp() -> Tensor { map(ct_exp) }
    public func log() -> Tensor { map(ct_log) }
    public func sqrt() -> Tensor { map(ct_sqrt) }
    public func square() -> Tensor { map(ct_square) }
    public func pow(_ exponent: Double) -> Tensor { map { ct_pow_scalar($0, exponent) } }
    public func abs() -> Tensor { map(ct_abs) }
    public func sin() -> Tensor { map(ct_sin) }
    public func cos() -> Tensor { map(ct_cos) }
    public func silu() -> Tensor { map(ct_silu) }
    public func sigmoid() -> Tensor { map(ct_sigmoid) }
    public func gelu(approximate: Bool = false) -> Tensor { map { ct_gelu($0, approximate) } }
    public func round() -> Tensor { map(ct_round) }
    public func isFinite() -> Tensor { map(ct_isfinite) }
    public func clamp(_ low: Double, _ high: Double) -> Tensor { map { ct_clamp($0, low, high) } }
    public static func maximum(_ a: Tensor, _ b: Tensor) -> Tensor { combine(a, b, ct_maximum) }
    public static func eq(_ a: Tensor, _ b: Tensor) -> Tensor { combine(a, b, ct_eq) }

    /// Adds `other` into this tensor's storage.
    public func add_(_ other: Tensor) { _ = Tensor.combine(self, other, ct_add_) }
    /// Overwrites this tensor's storage with `other`, converted where needed.
    public func copy_(_ other: Tensor) { _ = Tensor.combine(self, other, ct_copy_) }
}

// MARK: Reductions

extension Tensor {
    public func sum() -> Tensor { map(ct_sum_all) }
    public func mean() -> Tensor { map(ct_mean_all) }
    public func sum(_ dims: [Int], keepDims: Bool = false) -> Tensor { dims.withSizes { d, n in map { ct_sum($0, d, n, keepDims) } } }
    public func mean(_ dims: [Int], keepDims: Bool = false) -> Tensor { dims.withSizes { d, n in map { ct_mean($0, d, n, keepDims) } } }
    public func softmax(_ dim: Int) -> Tensor { map { ct_softmax($0, Int64(dim)) } }
    public func cumprod(_ dim: Int) -> Tensor { map { ct_cumprod($0, Int64(dim)) } }
}

// MARK: Shape and type

extension Tensor {
    public func reshape(_ shape: [Int]) -> Tensor { shape.withSizes { d, n in map { ct_reshape($0, d, n) } } }
    public func expand(_ shape: [Int]) -> Tensor { shape.withSizes { d, n in map { ct_expand($0, d, n) } } }
    public func permute(_ dims: [Int]) -> Tensor { dims.withSizes { d, n in map { ct_permute($0, d, n) } } }
    public func transpose(_ a: Int, _ b: Int) -> Tensor { map { ct_transpose($0, Int64(a), Int64(b)) } }
    public func unsqueeze(_ dim: Int) -> Tensor { map { ct_unsqueeze($0, Int64(dim)) } }
    public func squeeze(_ dim: Int) -> Tensor { map { ct_squeeze($0, Int64(dim)) } }
    public func narrow(_ dim: Int, _ start: Int, _ length: Int) -> Tensor { map { ct_narrow($0, Int64(dim), Int64(start), Int64(length)) } }
    public func select(_ dim: Int, _ index: Int) -> Tensor { map { ct_select($0, Int64(dim), Int64(index)) } }
    public func indexSelect(_ dim: Int, _ indices: Tensor) -> Tensor {
        Tensor.combine(self, indices) { ct_index_select($0, Int64(dim), $1) }
    }
    /// Rows `indices` of dimension 0.
    public func rows(_ indices: [Int]) -> Tensor { indexSelect(0, Tensor(indices.map(Int64.init), device: device)) }
    public func triu(_ diagonal: Int) -> Tensor { map { ct_triu($0, Int64(diagonal)) } }
    public func flip(_ dim: Int) -> Tensor { map { ct_flip($0, Int64(dim)) } }
    public func chunk(_ parts: Int, _ dim: Int) -> [Tensor] {
        let length = size(dim) / parts
        return (0..<parts).map { narrow(dim, $0 * length, length) }
    }
    /// Zero padding: (left, right) of the last dimension, then of the one before, and so on.
    public func pad(_ pads: [Int]) -> Tensor { pads.withSizes { d, n in map { ct_pad($0, d, n) } } }
    public static func cat(_ tensors: [Tensor], _ dim: Int) -> Tensor {
        Tensor(owning: withHandles(tensors) { ct_cat($0, $0.count, Int64(dim)) })
    }
    public static func stack(_ tensors: [Tensor], _ dim: Int) -> Tensor {
        Tensor(owning: withHandles(tensors) { ct_stack($0, $0.count, Int64(dim)) })
    }

    public func to(_ dtype: DType) -> Tensor { dtype == self.dtype ? self : map { ct_to($0, dtype.rawValue, ct_device($0)) } }
    public func to(_ device: Device) -> Tensor { device == self.device ? self : map { ct_to($0, ct_dtype($0), device.rawValue) } }
    public func contiguous() -> Tensor { map(ct_contiguous) }
    public func channelsLast() -> Tensor { map(ct_channels_last) }
    public func clone() -> Tensor { map(ct_clone) }
}

// MARK: Networks

extension Tensor {
    public func matmul(_ other: Tensor) -> Tensor { Tensor.combine(self, other, ct_matmul) }

    /// x W^T + b: `self` [..., in], `weight` [out, in].
    public func linear(_ weight: Tensor, _ bias: Tensor? = nil) -> Tensor {
        Tensor.withOptional(bias) { bias in Tensor.combine(self, weight) { ct_linear($0, $1, bias) } }
    }

    /// `self` [B, in, H, W], `weight` [out, in, k, k].
    public func conv2d(_ weight: Tensor, _ bias: Tensor?, stride: Int = 1, padding: Int = 0) -> Tensor {
        Tensor.withOptional(bias) { bias in Tensor.combine(self, weight) { ct_conv2d($0, $1, bias, Int64(stride), Int64(padding)) } }
    }

    public func groupNorm(groups: Int, weight: Tensor, bias: Tensor, eps: Double) -> Tensor {
        bias.withHandle { bias in Tensor.combine(self, weight) { ct_group_norm($0, Int64(groups), $1, bias, eps) } }
    }

    /// Over the last dimension.
    public func layerNorm(weight: Tensor, bias: Tensor, eps: Double) -> Tensor {
        bias.withHandle { bias in Tensor.combine(self, weight) { ct_layer_norm($0, $1, bias, eps) } }
    }

    /// Scaled dot-product attention: queries, keys, values [B, heads, L, D].
    public static func attention(_ q: Tensor, _ k: Tensor, _ v: Tensor, causal: Bool = false) -> Tensor {
        v.withHandle { v in combine(q, k) { ct_attention($0, $1, v, causal) } }
    }

    /// Rows of `self` [N, D] by `indices` (int64, any shape).
    public func embedding(_ indices: Tensor) -> Tensor { Tensor.combine(self, indices, ct_embedding) }
    public func upsampleNearest(height: Int, width: Int) -> Tensor { map { ct_upsample_nearest($0, Int64(height), Int64(width)) } }
    public func averagePool(_ kernel: Int) -> Tensor { map { ct_avg_pool2d($0, Int64(kernel)) } }
}
