import Tensors

/// torch.optim.AdamW (Loshchilov and Hutter 2019) over named float32 parameters.
package struct AdamW {
    /// The trained tensors, in the order of the names in a checkpoint.
    package let parameters: [(name: String, tensor: Tensor)]
    /// The step size.
    package let learningRate: Double
    private let weightDecay: Double
    private let moments: (first: [Tensor], second: [Tensor])
    private let steps: [Tensor]
    private var tensors: [Tensor] { parameters.map(\.tensor) }

    /// Uses betas (0.9, 0.999) and eps 1e-8. Marks the parameters as requiring gradients.
    package init(_ parameters: [(name: String, tensor: Tensor)], learningRate: Double, weightDecay: Double) {
        self.parameters = parameters
        self.learningRate = learningRate
        self.weightDecay = weightDecay
        func zeros() -> [Tensor] { parameters.map { Tensor.zeros($0.tensor.shape, device: $0.tensor.device) } }
        moments = (zeros(), zeros())
        steps = parameters.map { Tensor.zeros([], device: $0.tensor.device) }
        for (_, tensor) in parameters { tensor.requiresGrad = true }
    }

    /// Scales the gradients to a joint norm of at most `maxNorm`.
    /// - Returns: the norm before clipping.
    /// - Throws: `TensorError` if an operation on tensors failed.
    package func clipGradients(maxNorm: Double) throws -> Double { try Tensor.clipGradNorm(tensors, maxNorm: maxNorm) }

    /// Multiplies all gradients by `factor`.
    package func scaleGradients(by factor: Double) {
        for case let gradient? in tensors.map(\.grad) { gradient.copy_(gradient * factor) }
    }

    /// Makes one step and keeps the gradients.
    /// - Parameter factor: of the learning rate.
    /// - Throws: `TensorError` if an operation on tensors failed.
    package func step(_ factor: Double = 1) throws {
        try Tensor.adamW(
            tensors, moments: moments, steps: steps, learningRate: learningRate * factor, betas: (0.9, 0.999), weightDecay: weightDecay,
            eps: 1e-8)
    }

    /// Number of trained numbers.
    package var count: Int { tensors.reduce(0) { $0 + $1.count } }

    /// Returns all gradients as one vector, zero for parameters without one, and forgets them.
    package func takeGradients() -> Tensor {
        defer { clearGradients() }
        return Tensor.cat(tensors.map { ($0.grad ?? Tensor.zeros($0.shape, device: $0.device)).reshape([-1]) }, 0)
    }

    /// Puts the gradients of a vector, [count], in place.
    package func setGradients(_ vector: Tensor) {
        var start = 0
        for tensor in tensors {
            tensor.setGrad(vector.narrow(0, start, tensor.count).reshape(tensor.shape))
            start += tensor.count
        }
    }

    /// Forgets the gradients.
    package func clearGradients() { for tensor in tensors { tensor.clearGrad() } }

    /// Parameters, moments and step counts by name, for a checkpoint.
    package func state(_ prefix: String) -> [String: Tensor] {
        var state: [String: Tensor] = [:]
        for (k, parameter) in parameters.enumerated() {
            state["\(prefix).\(parameter.name)"] = parameter.tensor.detach()
            state["\(prefix).exp_avg.\(parameter.name)"] = moments.first[k]
            state["\(prefix).exp_avg_sq.\(parameter.name)"] = moments.second[k]
            state["\(prefix).step.\(parameter.name)"] = steps[k]
        }
        return state
    }

    /// Restores what `state` returned, in place.
    /// - Throws: `TensorFileError` if a tensor is missing or has another shape.
    package func restore(_ state: [String: Tensor], _ prefix: String) throws {
        try restoreTensors(self.state(prefix), from: state)
    }
}

/// Copies saved tensors to those of the same names.
/// - Throws: `TensorFileError` if one is missing or has another shape.
func restoreTensors(_ tensors: [String: Tensor], from saved: [String: Tensor]) throws {
    for (name, tensor) in tensors {
        guard let saved = saved[name], saved.shape == tensor.shape else {
            throw TensorFileError("the checkpoint does not fit this model and configuration: '\(name)' is missing or has another shape")
        }
        tensor.copy_(saved)
    }
    try TensorError.check()
}
