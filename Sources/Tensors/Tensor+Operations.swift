import CTorch

// Operations with PyTorch's names and meaning. None throws: see TensorError.check.

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
    /// Sum, with broadcasting.
    package static func + (a: Tensor, b: Tensor) -> Tensor { combine(a, b, ct_add) }
    /// Difference, with broadcasting.
    package static func - (a: Tensor, b: Tensor) -> Tensor { combine(a, b, ct_sub) }
    /// Product of elements, with broadcasting.
    package static func * (a: Tensor, b: Tensor) -> Tensor { combine(a, b, ct_mul) }
    /// Quotient of elements, with broadcasting.
    package static func / (a: Tensor, b: Tensor) -> Tensor { combine(a, b, ct_div) }
    /// Adds a number to every element.
    package static func + (a: Tensor, b: Double) -> Tensor { a.map { ct_add_scalar($0, b) } }
    /// Subtracts a number from every element.
    package static func - (a: Tensor, b: Double) -> Tensor { a.map { ct_add_scalar($0, -b) } }
    /// Multiplies every element.
    package static func * (a: Tensor, b: Double) -> Tensor { a.map { ct_mul_scalar($0, b) } }
    /// Divides every element.
    package static func / (a: Tensor, b: Double) -> Tensor { a.map { ct_mul_scalar($0, 1 / b) } }
    /// Multiplies every element.
    package static func * (a: Double, b: Tensor) -> Tensor { b * a }
    /// A number minus every element.
    package static func - (a: Double, b: Tensor) -> Tensor { b.map { ct_rsub_scalar($0, a) } }
    /// Negation.
    package static prefix func - (a: Tensor) -> Tensor { a.map(ct_neg) }

    /// e to the power of each element.
    package func exp() -> Tensor { map(ct_exp) }
    /// Natural logarithm.
    package func log() -> Tensor { map(ct_log) }
    /// Square root.
    package func sqrt() -> Tensor { map(ct_sqrt) }
    /// Each element times itself.
    package func square() -> Tensor { map(ct_square) }
    /// Absolute value.
    package func abs() -> Tensor { map(ct_abs) }
    /// Sine.
    package func sin() -> Tensor { map(ct_sin) }
    /// Cosine.
    package func cos() -> Tensor { map(ct_cos) }
    /// x sigmoid(x).
    package func silu() -> Tensor { map(ct_silu) }
    /// 1 / (1 + e^-x).
    package func sigmoid() -> Tensor { map(ct_sigmoid) }
    /// log(1 + exp(x)).
    package func softplus() -> Tensor { map(ct_softplus) }
    /// Hyperbolic tangent.
    package func tanh() -> Tensor { map(ct_tanh) }
    /// x Phi(x), exactly.
    package func gelu() -> Tensor { map(ct_gelu) }
    /// To the nearest integer, halves to even.
    package func round() -> Tensor { map(ct_round) }
    /// Limits every element to [low, high].
    package func clamp(_ low: Double, _ high: Double) -> Tensor { map { ct_clamp($0, low, high) } }
    /// The larger of two elements.
    package static func maximum(_ a: Tensor, _ b: Tensor) -> Tensor { combine(a, b, ct_maximum) }
    /// The smaller of two elements.
    package static func minimum(_ a: Tensor, _ b: Tensor) -> Tensor { combine(a, b, ct_minimum) }

    /// Overwrites this tensor's storage with `other`, converted where needed.
    package func copy_(_ other: Tensor) { _ = Tensor.combine(self, other, ct_copy_) }
}

// MARK: Reductions

extension Tensor {
    /// Sum of all elements, a scalar.
    package func sum() -> Tensor { map(ct_sum_all) }
    /// Mean of all elements, a scalar.
    package func mean() -> Tensor { map(ct_mean_all) }
    /// Sum over `dims`.
    package func sum(_ dims: [Int], keepDims: Bool = false) -> Tensor { dims.withSizes { d, n in map { ct_sum($0, d, n, keepDims) } } }
    /// Mean over `dims`.
    package func mean(_ dims: [Int], keepDims: Bool = false) -> Tensor { dims.withSizes { d, n in map { ct_mean($0, d, n, keepDims) } } }
    /// Cumulative product along `dim`.
    package func cumprod(_ dim: Int) -> Tensor { map { ct_cumprod($0, Int64(dim)) } }
}

// MARK: Shape and type

extension Tensor {
    /// The same elements in another shape; one size may be -1.
    package func reshape(_ shape: [Int]) -> Tensor { shape.withSizes { d, n in map { ct_reshape($0, d, n) } } }
    /// Repeats dimensions of size 1 without copying.
    package func expand(_ shape: [Int]) -> Tensor { shape.withSizes { d, n in map { ct_expand($0, d, n) } } }
    /// Dimensions in the order `dims`.
    package func permute(_ dims: [Int]) -> Tensor { dims.withSizes { d, n in map { ct_permute($0, d, n) } } }
    /// Swaps two dimensions.
    package func transpose(_ a: Int, _ b: Int) -> Tensor { map { ct_transpose($0, Int64(a), Int64(b)) } }
    /// Inserts a dimension of size 1.
    package func unsqueeze(_ dim: Int) -> Tensor { map { ct_unsqueeze($0, Int64(dim)) } }
    /// Removes a dimension of size 1.
    package func squeeze(_ dim: Int) -> Tensor { map { ct_squeeze($0, Int64(dim)) } }
    /// `length` entries of `dim` from `start` on, as a view.
    package func narrow(_ dim: Int, _ start: Int, _ length: Int) -> Tensor {
        map { ct_narrow($0, Int64(dim), Int64(start), Int64(length)) }
    }
    /// Entry `index` of `dim`, as a view without that dimension.
    package func select(_ dim: Int, _ index: Int) -> Tensor { map { ct_select($0, Int64(dim), Int64(index)) } }
    /// Entries `indices` (int64) of `dim`, copied.
    package func indexSelect(_ dim: Int, _ indices: Tensor) -> Tensor {
        Tensor.combine(self, indices) { ct_index_select($0, Int64(dim), $1) }
    }
    /// Rows `indices` of dimension 0, copied.
    package func rows(_ indices: [Int]) -> Tensor { rows(Tensor(indices.map(Int64.init), device: device)) }
    /// Rows `indices` (int64, on this device) of dimension 0, copied.
    package func rows(_ indices: Tensor) -> Tensor { indexSelect(0, indices) }
    /// Equal parts of `dim`, as views.
    package func chunk(_ parts: Int, _ dim: Int) -> [Tensor] {
        let length = size(dim) / parts
        return (0..<parts).map { narrow(dim, $0 * length, length) }
    }
    /// Zero padding: (left, right) of the last dimension, then of the one before, and so on.
    package func pad(_ pads: [Int]) -> Tensor { pads.withSizes { d, n in map { ct_pad($0, d, n) } } }
    /// Joins tensors along an existing dimension.
    package static func cat(_ tensors: [Tensor], _ dim: Int) -> Tensor {
        Tensor(owning: withHandles(tensors) { ct_cat($0, $0.count, Int64(dim)) })
    }
    /// Joins tensors along a new dimension.
    package static func stack(_ tensors: [Tensor], _ dim: Int) -> Tensor {
        Tensor(owning: withHandles(tensors) { ct_stack($0, $0.count, Int64(dim)) })
    }

    /// Converts the elements.
    package func to(_ dtype: DType) -> Tensor { dtype == self.dtype ? self : map { ct_to($0, dtype.rawValue, ct_device($0)) } }
    /// Moves to a device.
    package func to(_ device: Device) -> Tensor { device == self.device ? self : map { ct_to($0, ct_dtype($0), device.rawValue) } }
    /// Packed in row-major order.
    package func contiguous() -> Tensor { map(ct_contiguous) }
    /// The same values, laid out in memory as `other` is: channels-last, or row by row.
    package func contiguous(like other: Tensor) -> Tensor { Tensor.combine(self, other, ct_contiguous_like) }
    /// The same values of `self` [B, C, H, W] in PyTorch's channels-last format: the channels of a pixel lie
    /// beside each other.
    package func channelsLast() -> Tensor { map(ct_channels_last) }
    /// A copy with memory of its own.
    package func clone() -> Tensor { map(ct_clone) }
}

// MARK: Networks

extension Tensor {
    /// Matrix product of the last two dimensions.
    package func matmul(_ other: Tensor) -> Tensor {
        let product = Tensor.combine(self, other, ct_matmul)
        OperationCount.add { 2 * product.count * size(rank - 1) }
        return product
    }

    /// x W^T + b, where x is `self` [..., in] and W is `weight` [out, in].
    package func linear(_ weight: Tensor, _ bias: Tensor? = nil) -> Tensor {
        OperationCount.add { 2 * count * weight.size(0) }
        return Tensor.withOptional(bias) { bias in Tensor.combine(self, weight) { ct_linear($0, $1, bias) } }
    }

    /// x W^T + b + scale (x A^T) B^T: a linear layer with a low-rank
    /// adapter A [rank, in], B [out, rank], all of one type.
    package func linear(_ weight: Tensor, _ bias: Tensor?, adapter: (a: Tensor, b: Tensor), scale: Double) -> Tensor {
        OperationCount.add { 2 * count * weight.size(0) + 2 * count / weight.size(1) * (adapter.a.count + adapter.b.count) }
        return Tensor.withOptional(bias) { bias in
            adapter.a.withHandle { a in
                adapter.b.withHandle { b in Tensor.combine(self, weight) { ct_linear_lora($0, $1, bias, a, b, scale) } }
            }
        }
    }

    /// Convolution of `self` [B, in, H, W] with `weight` [out, in, k, k].
    package func conv2d(_ weight: Tensor, _ bias: Tensor?, stride: Int = 1, padding: Int = 0) -> Tensor {
        let output = Tensor.withOptional(bias) { bias in
            Tensor.combine(self, weight) { ct_conv2d($0, $1, bias, Int64(stride), Int64(padding)) }
        }
        OperationCount.add { 2 * output.count * weight.count / weight.size(0) }
        return output
    }

    /// torch.nn.functional.group_norm of `self` [B, C, ...].
    package func groupNorm(groups: Int, weight: Tensor, bias: Tensor, eps: Double) -> Tensor {
        bias.withHandle { bias in Tensor.combine(self, weight) { ct_group_norm($0, Int64(groups), $1, bias, eps) } }
    }

    /// torch.nn.functional.layer_norm over the last dimension.
    package func layerNorm(weight: Tensor, bias: Tensor, eps: Double) -> Tensor {
        bias.withHandle { bias in Tensor.combine(self, weight) { ct_layer_norm($0, $1, bias, eps) } }
    }

    /// Scaled dot-product attention: queries [B, L, D], keys and values
    /// [B, M, D] to [B, L, D]. Each head has an equal part of D.
    package static func attention(_ q: Tensor, _ k: Tensor, _ v: Tensor, heads: Int, causal: Bool = false) -> Tensor {
        func split(_ x: Tensor) -> Tensor { x.reshape([x.size(0), x.size(1), heads, x.size(2) / heads]).transpose(1, 2) }
        OperationCount.add { 4 * q.count * k.size(1) }
        let attended = split(v).withHandle { v in combine(split(q), split(k)) { ct_attention($0, $1, v, causal) } }
        return attended.transpose(1, 2).reshape(q.shape)
    }

    /// Scales vectors along the last dimension to length one.
    package func normalize() -> Tensor { self / square().sum([-1], keepDims: true).sqrt().clamp(1e-12, .infinity) }

    /// Rows of `self` [N, D] by `indices` (int64, any shape).
    package func embedding(_ indices: Tensor) -> Tensor { Tensor.combine(self, indices, ct_embedding) }
    /// Nearest-neighbour resizing of `self` [B, C, H, W].
    package func upsampleNearest(height: Int, width: Int) -> Tensor { map { ct_upsample_nearest($0, Int64(height), Int64(width)) } }
    /// Bicubic resizing of float `self` [B, C, H, W], with antialiasing as torchvision's `resize` of a tensor, or without
    /// as `torch.nn.functional.interpolate`.
    package func resizeBicubic(height: Int, width: Int, antialias: Bool = true) -> Tensor {
        map { ct_resize_bicubic($0, Int64(height), Int64(width), antialias) }
    }
    /// The symmetric square root of a symmetric matrix [N, N] that has no negative eigenvalues but by rounding.
    package func matrixSquareRoot() -> Tensor { map(ct_matrix_square_root) }
    /// A contiguous tensor of elements of `self`, which has
    /// one dimension. An element beyond its end is an error.
    func strided(_ sizes: [Int], _ strides: [Int], offset: Int) -> Tensor {
        map { ct_as_strided($0, sizes.map(Int64.init), strides.map(Int64.init), Int32(sizes.count), Int64(offset)) }
    }
}
