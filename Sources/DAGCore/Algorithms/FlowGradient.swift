import Tensors

/// The gradient of a learned state flow, for DAG-Nabla.
///
/// The flow of the anchored target over that of the pretrained model is the mean weight w of the images that
/// lead to a state x_t, over their mean weight u (see `Replay`):
///
///     r(x_t) = E[w | x_t] / E[u | x_t]
///
/// Its gradient turns the pretrained model's noise prediction into the target's, exactly for small steps and
/// eta 1. That is residual nabla-DB (Liu et al. 2025), who have the gradient of a differentiable reward:
///
///     epsilon = epsilon_base - c sqrt(1 - abar_t) grad log r(x_t)
///
/// log r is learned by logistic regression between the two kinds of images, which needs scores alone.
struct FlowGradient {
    /// The network of log r.
    let flow: any FlowNetwork
    /// c: 1 for an exact flow.
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
    /// - Throws: `TensorError`, or `OrderError` if the network does not depend on the state.
    func callAsFunction(_ x: Tensor, times: Tensor, context: Tensor?) throws -> Tensor {
        let weights = flow.parameters.map(\.tensor)
        for weight in weights { weight.requiresGrad = false }
        defer { for weight in weights { weight.requiresGrad = true } }
        let state = x.detach().clone()
        state.requiresGrad = true
        try flow(state, times: times, context: context).sum().backward()
        guard let gradient = state.grad else { throw OrderError("the flow network does not depend on the state: it has no gradient") }
        return gradient * scale
    }
}
