import CTorch

/// Runs `body` without recording operations for gradients, on this thread.
package func withoutGradients<Result>(_ body: () throws -> Result) rethrows -> Result {
    let before = ct_set_grad_enabled(false)
    defer { _ = ct_set_grad_enabled(before) }
    return try body()
}

extension Tensor {
    /// Returns the same values, without the operations that made them: no gradient flows through.
    package func detach() -> Tensor { Tensor(owning: withHandle(ct_detach)) }

    /// Whether operations on this tensor are recorded for gradients.
    package var requiresGrad: Bool {
        get { withHandle(ct_requires_grad) }
        nonmutating set { withHandle { ct_set_requires_grad($0, newValue) } }
    }

    /// Accumulates the gradient of this scalar into every leaf that requires it.
    /// - Throws: `TensorError` if this or an earlier operation failed.
    package func backward() throws {
        withHandle(ct_backward)
        try TensorError.check()
    }

    /// The gradient that `backward` accumulated; nil before that.
    package var grad: Tensor? {
        let gradient = Tensor(owning: withHandle(ct_grad))
        return gradient.isDefined ? gradient : nil
    }

    /// Puts a gradient in place of the one that `backward` accumulated.
    /// - Parameter gradient: of this tensor's shape.
    package func setGrad(_ gradient: Tensor) { withHandle { handle in gradient.withHandle { ct_set_grad(handle, $0) } } }

    /// Forgets the gradient.
    package func clearGrad() { withHandle(ct_clear_grad) }

    /// Scales the gradients of `parameters` in place to a joint 2-norm of at most `maxNorm`
    /// (torch.nn.utils.clip_grad_norm_).
    /// - Returns: the norm before.
    /// - Throws: `TensorError` if this or an earlier operation failed.
    package static func clipGradNorm(_ parameters: [Tensor], maxNorm: Double) throws -> Double {
        let norm = withHandles(parameters) { ct_clip_grad_norm($0, $0.count, maxNorm) }
        try TensorError.check()
        return norm
    }

    /// One step of torch.optim.AdamW, in place, on the parameters that have a gradient.
    /// - Parameters:
    ///   - moments: first and second moments, of the parameters' shapes.
    ///   - steps: a float32 scalar for each parameter; the call adds 1.
    /// - Throws: `TensorError` if this or an earlier operation failed.
    package static func adamW(
        _ parameters: [Tensor], moments: (first: [Tensor], second: [Tensor]), steps: [Tensor], learningRate: Double,
        betas: (Double, Double), weightDecay: Double, eps: Double
    ) throws {
        withHandles(parameters) { p in
            withHandles(moments.first) { m in
                withHandles(moments.second) { v in
                    withHandles(steps) { ct_adamw(p, m, v, $0, p.count, learningRate, betas.0, betas.1, weightDecay, eps) }
                }
            }
        }
        try TensorError.check()
    }
}
