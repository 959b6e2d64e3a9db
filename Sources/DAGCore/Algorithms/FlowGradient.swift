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
///     epsilon = epsilon_base - c_t sqrt(1 - abar_t) grad log r(x_t)
///
/// log r is learned by logistic regression between the two kinds of images, which needs scores alone; how
/// much of it was learned says c_t, see `Scale`.
struct FlowGradient {
    /// The network of log r.
    let flow: any FlowNetwork

    /// The factors c_t, one for each step, measured on images that the flow has not learned from.
    ///
    /// An exact gradient moves the mean of each transition by d_t, in units of its deviation, where the
    /// target's trajectories are moved by it: by Girsanov's theorem,
    ///
    ///     S_t = E_w[d_t . delta_t] - E_u[d_t . delta_t]         sum of S_t = 2 KL(target || pretrained)
    ///
    /// delta_t being the move from the pretrained model's mean to that of P_B(x_t' | x_t, x_0), and S_t =
    /// E_w[|d_t|^2]. A learned gradient has noise, which is in its square alone: a_t = S_t / E_w[|d_t|^2] is
    /// the factor that is best by least squares, and 0 where S_t cannot be told from 0. And the gradient has
    /// not found all: c = 2 KL / sum of a_t S_t makes up for that, and c_t = c a_t.
    struct Scale {
        /// Of c: from 1, which is exact, to 2, where half of the gradient has not been found.
        static let range = 1.0...2.0
        /// c_t, by step.
        let factors: [Double]
        /// What is wrong with them; nil if nothing is.
        let warning: String?

        /// - Parameters:
        ///   - projections: (w - u) d_t . delta_t of images, nats, by image and step.
        ///   - squares: w |d_t|^2 of the same.
        ///   - target: their w.
        ///   - pretrained: their u.
        init(projections: [[Double]], squares: [[Double]], target: [Double], pretrained: [Double], steps: Int) {
            let n = Double(projections.count)
            let means = (0..<steps).map { step -> (projection: Double, square: Double)? in
                let mean = projections.reduce(0) { $0 + $1[step] } / n
                let variance = projections.reduce(0) { $0 + ($1[step] - mean) * ($1[step] - mean) } / (n * (n - 1))
                return mean > 2 * variance.squareRoot() ? (mean, squares.reduce(0) { $0 + $1[step] } / n) : nil
            }
            let shares = means.map { $0.map { min($0.projection / $0.square, 1) } ?? 0 }
            let found = zip(means, shares).reduce(0) { $0 + ($1.0?.projection ?? 0) * $1.1 }
            let place = "on \(projections.count) images that it has not seen, the flow's gradient"
            let remedy = "more images or more flow updates teach it more"
            guard found > 0 else {
                factors = shares.map { _ in 1 }
                warning = "\(place) cannot be told from noise; it is followed as it is: \(remedy)"
                return
            }
            // Not negative for any image, and the mean is the KL of weights whose own mean is 1.
            let divergence = zip(target, pretrained).map { w, u in (w > 0 ? w * log(w / u) : 0) - w + u }.reduce(0, +) / n
            let whole = 2 * divergence / found
            let scale = min(max(whole, Self.range.lowerBound), Self.range.upperBound)
            factors = shares.map { scale * $0 }
            warning =
                whole <= Self.range.upperBound
                ? nil : "\(place) is \(Int(100 / whole))% of what it is to be, and the policy learns less than its target: \(remedy)"
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
