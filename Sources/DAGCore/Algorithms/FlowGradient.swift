import Foundation
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
/// log r is learned by logistic regression between the two kinds of images, which needs scores alone; how
/// much of it was learned says c, see `Scale`.
struct FlowGradient {
    /// The network of log r.
    let flow: any FlowNetwork

    /// The scale c, measured on images that the flow has not learned from.
    ///
    /// An exact gradient moves the mean of each transition by d_t, in units of its deviation, where the
    /// target's trajectories are moved by it: by Girsanov's theorem,
    ///
    ///     sum over t of E_w[d_t . delta_t] - E_u[d_t . delta_t] = 2 KL(target || pretrained)
    ///
    /// delta_t being the move from the pretrained model's mean to that of P_B(x_t' | x_t, x_0). A flow that
    /// has learned a part of its gradient has a smaller sum: c makes up for that.
    struct Scale {
        /// From 1, which is exact, to 2, where noise is multiplied as much as what was learned.
        static let range = 1.0...2.0
        let value: Double
        /// What is wrong with it; nil if nothing is.
        let warning: String?

        /// - Parameters:
        ///   - projections: (w - u) sum over t of d_t . delta_t of images, nats.
        ///   - target: their w.
        ///   - pretrained: their u.
        init(projections: [Double], target: [Double], pretrained: [Double]) {
            let n = Double(projections.count)
            // Not negative for any image, and the mean is the KL of weights whose own mean is 1.
            let divergence = zip(target, pretrained).map { w, u in (w > 0 ? w * log(w / u) : 0) - w + u }.reduce(0, +) / n
            let mean = projections.reduce(0, +) / n
            let error = (projections.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / (n * (n - 1))).squareRoot()
            let remedy = "the policy gets less than the target asks for. More images or more flow updates teach it more"
            guard mean > 2 * error else {
                value = Self.range.lowerBound
                warning = "on \(projections.count) images that it has not seen, the flow's gradient cannot be told from noise: \(remedy)"
                return
            }
            let whole = 2 * divergence / mean
            value = min(max(whole, Self.range.lowerBound), Self.range.upperBound)
            warning =
                whole <= Self.range.upperBound
                ? nil
                : "on \(projections.count) images that it has not seen, the flow's gradient is \(Int(100 / whole)) % of what it is to be: "
                    + remedy
        }
    }

    /// Computes the losses of logistic regression, float32 [n], whose mean is least at log r.
    /// - Parameters:
    ///   - logRatio: the network's log r(x_t), float32 [n].
    ///   - target: w, float32 [n].
    ///   - pretrained: u, float32 [n].
    static func loss(_ logRatio: Tensor, target: Tensor, pretrained: Tensor) -> Tensor {
        target * (-logRatio).softplus() + pretrained * logRatio.softplus()
    }

    /// Computes grad log r at states [n, C, H, W], float32 of that shape, without gradients.
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
        return gradient
    }
}
