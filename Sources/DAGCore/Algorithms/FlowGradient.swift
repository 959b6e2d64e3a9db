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
/// r is learned from scores alone, by what rejection sampling would do: it keeps an image of the pretrained
/// model for the target with the chance w / (M u), where M is the largest w / u of the prompt's images. One that
/// leads to x_t is kept with the chance sigma(f(x_t)) = r(x_t) / M, so that f is learned by logistic regression.
/// How much of it was learned says c, see `Scale`.
struct FlowGradient {
    /// The network of f.
    let flow: any FlowNetwork

    /// The scale c of the gradient, measured on images that the flow has not learned from.
    ///
    /// Let d_t be the move of a transition's mean that the gradient asks for, and delta_t the move from the
    /// pretrained model's mean to that of P_B(x_t' | x_t, x_0), both in units of the deviation at eta 1. With
    ///
    ///     S_t = E_w[d_t . delta_t] - E_u[d_t . delta_t]
    ///
    /// an exact gradient's S_t add up to 2 KL(target || pretrained) in small steps, by Girsanov's theorem. A
    /// learned gradient has not found all, so that their sum is too small:
    ///
    ///     c = 2 KL / sum of S_t
    ///
    /// over the steps whose S_t is more than two of its standard errors: the others can be so noisy that the
    /// whole sum would tell nothing.
    struct Scale {
        /// Images without which nothing is measured.
        static let fewest = 100
        /// Of c: from 1, which is exact, to 2, where half of the gradient has not been found.
        static let range = 1.0...2.0
        /// c; 1 where it could not be measured.
        let value: Double
        /// What is wrong with it; nil if nothing is.
        let warning: String?

        /// - Parameters:
        ///   - projections: d_t . delta_t of images, nats, by image and step.
        ///   - target: their w.
        ///   - pretrained: their u.
        ///   - steps: of the chain, those with noise.
        init(projections: [[Double]], target: [Double], pretrained: [Double], steps: Int) {
            let count = projections.count
            let remedy = "More images an epoch, more of each prompt, or more flow updates teach it more"
            guard count >= Self.fewest else {
                value = 1
                warning = """
                    \(count) held-out images, a tenth of all, are too few to measure the flow's gradient on: it is followed as it is, \
                    to less than the target asks for. Sample \(10 * Self.fewest) images an epoch or more
                    """
                return
            }
            func mean(_ numbers: [Double]) -> Double { numbers.reduce(0, +) / Double(count) }
            // S_t of the steps that count.
            let found = (0..<steps).map { step -> Double in
                let terms = (0..<count).map { (target[$0] - pretrained[$0]) * projections[$0][step] }
                let sum = mean(terms)
                let error = (mean(terms.map { ($0 - sum) * ($0 - sum) }) / Double(count - 1)).squareRoot()
                return sum > 2 * error ? sum : 0
            }
            let sum = found.reduce(0, +)
            guard sum > 0 else {
                value = 1
                warning = "on held-out images the flow's gradient cannot be told from noise; it is followed as it is. \(remedy)"
                return
            }
            // Not negative for any image, and the mean is the KL of weights whose own mean is 1.
            let divergence = mean(zip(target, pretrained).map { w, u in (w > 0 ? w * log(w / u) : 0) - w + u })
            let whole = 2 * divergence / sum
            value = min(max(whole, Self.range.lowerBound), Self.range.upperBound)
            warning =
                whole <= Self.range.upperBound
                ? nil : "on held-out images the flow's gradient is \(Int(100 / whole))% of what the target asks for. \(remedy)"
        }
    }

    /// Computes the losses of logistic regression, float32 [n], whose mean is least at sigma(f) = r / M.
    /// - Parameters:
    ///   - logit: f(x_t), float32 [n].
    ///   - target: w, float32 [n].
    ///   - pretrained: u, float32 [n].
    ///   - bound: M, float32 [n].
    static func loss(_ logit: Tensor, target: Tensor, pretrained: Tensor, bound: Tensor) -> Tensor {
        // No more than u, so that the loss has a minimum where u has underflowed and w has not.
        let accepted = Tensor.minimum(target / bound, pretrained)
        return accepted * (-logit).softplus() + (pretrained - accepted) * logit.softplus()
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
        // log sigma(f) = log r - log M
        try (-(-flow(state, times: times, context: context)).softplus()).sum().backward()
        guard let gradient = state.grad else { throw OrderError("the flow network does not depend on the state: it has no gradient") }
        return gradient
    }
}
