import Tensors

/// The gradient of a learned state flow, for DAG-Nabla.
///
/// Of the images that lead to a state x_t, those of the target and those of the pretrained model weigh
///
///     r(x_t) = E[w | x_t] / E[u | x_t]                     (w and u: see `Replay`)
///
/// which is the flow of the anchored target over that of the pretrained model. Its gradient turns the
/// pretrained model's noise prediction into the target's, up to the size of a step (residual nabla-DB, Liu et
/// al. 2025, in place of their gradient of a differentiable reward):
///
///     epsilon = epsilon_base - c sqrt(1 - abar_t) grad log r(x_t)
///
/// log r is learned by logistic regression between the two kinds of images, which needs scores alone.
struct FlowGradient {
    /// The network of log r.
    let flow: any FlowNetwork
    /// c: 1 for a flow that knows all about the images that a state leads to.
    let scale: Double

    /// Computes the losses of logistic regression, float32 [n], whose mean is least at log r.
    /// - Parameters:
    ///   - logRatio: the network's log r(x_t), float32 [n].
    ///   - target: w, float32 [n].
    ///   - pretrained: u, float32 [n].
    static func loss(_ logRatio: Tensor, target: Tensor, pretrained: Tensor) -> Tensor {
        target * (-logRatio).softplus() + pretrained * logRatio.softplus()
    }

    /// Computes c grad log r at states [n, C, H, W], float32 of that shape, without gradients.
    /// - Parameters:
    ///   - times: int64 [n].
    ///   - context: text embedding [n, L, D]; nil without text.
    /// - Throws: `TensorError`.
    func callAsFunction(_ x: Tensor, times: Tensor, context: Tensor?) throws -> Tensor {
        let weights = flow.parameters.map(\.tensor)
        for weight in weights { weight.requiresGrad = false }
        defer { for weight in weights { weight.requiresGrad = true } }
        let state = x.detach().clone()
        state.requiresGrad = true
        try flow(state, times: times, context: context).sum().backward()
        guard let gradient = state.grad else { return Tensor.zeros(x.shape, device: x.device) }
        return gradient * scale
    }
}
