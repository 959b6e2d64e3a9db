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
/// How much of it was learned says c, and how much of the target the policy learned, a: see `Scale`.
struct FlowGradient {
    /// The network of f.
    let flow: any FlowNetwork

    /// What moves the mean of a transition.
    enum Moves {
        /// The flow's gradient, by as much as it asks for.
        case gradient
        /// The policy, by as much as it differs from the pretrained model.
        case policy

        /// From 1, which is exact, to 2, where half of the gradient has not been found. A policy may also have gone
        /// too far, by noise in c or in its own steps.
        var range: ClosedRange<Double> { self == .gradient ? 1...2 : 0.5...2 }
        /// What is measured, for messages.
        var subject: String { self == .gradient ? "the flow's gradient" : "what the policy has learned" }
        /// What teaches it more.
        var remedy: String {
            "More images an epoch, more of each prompt, or more flow \(self == .gradient ? "" : "or replay ")updates teach it more"
        }
    }

    /// What moves have to be multiplied by to lead to the target, measured on trajectories that the flow has not
    /// learned from: c of the gradient, and a of the policy.
    ///
    /// Let d_t be the move of a transition's mean, and delta_t the transition's own, from the mean of the
    /// pretrained model to x_t', both in units of the deviation. With
    ///
    ///     S_t = E_w[d_t . delta_t] - E_u[r(x_t) d_t . delta_t]
    ///
    /// the target's S_t add up to 2 KL(target || pretrained) in small steps of eta 1, by Girsanov's theorem. The
    /// second expectation is zero for any r; it takes out noise that x_t explains. A learned gradient has not
    /// found all, nor has a policy learned all of it, so that the sum is mostly too small:
    ///
    ///     c, or a  =  2 KL / sum of S_t
    ///
    /// over the steps whose S_t has a standard error of less than `largestError`: the others can be so noisy
    /// that the whole sum would tell nothing.
    struct Scale {
        /// Trajectories without which nothing is measured.
        static let fewest = 100
        /// Of a step's S_t, in parts of 2 KL.
        static let largestError = 0.1
        /// The standard errors of the sum that it has to be above zero, to be told from noise.
        static let fewestErrors = 3.0
        /// c or a; 1 where it could not be measured.
        let value: Double
        /// What is wrong with it; nil if nothing is.
        let warning: String?

        /// - Parameters:
        ///   - moves: what d_t is of.
        ///   - projections: d_t . delta_t of trajectories, nats, by trajectory and step.
        ///   - ratios: r(x_t), likewise.
        ///   - target: w, by trajectory.
        ///   - pretrained: u, by trajectory.
        init(of moves: Moves, projections: [[Double]], ratios: [[Double]], target: [Double], pretrained: [Double]) {
            let count = projections.count
            guard count >= Self.fewest else {
                value = 1
                warning = """
                    \(count) held-out images, a tenth of those that the epoch sampled and the buffer has, are too few to measure the flow's \
                    gradient on: it is followed as it is, to less than the target asks for. Take \(10 * Self.fewest) or more
                    """
                return
            }
            func moments(_ numbers: [Double]) -> (mean: Double, error: Double) {
                let mean = numbers.reduce(0, +) / Double(count)
                return (mean, (numbers.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(count * (count - 1))).squareRoot())
            }
            // w and u have a mean of one over the images of all epochs: not over these.
            let (w, u) = (moments(target).mean, moments(pretrained).mean)
            let whole = 2 * moments(zip(target, pretrained).map { $0 > 0 ? $0 / w * log($0 / w / ($1 / u)) : 0 }).mean
            // By step and trajectory.
            let terms = projections[0].indices.map { step in
                (0..<count).map { (target[$0] - ratios[$0][step] * pretrained[$0]) / w * projections[$0][step] }
            }
            let clear = terms.filter { moments($0).error < Self.largestError * whole }
            let sum = moments((0..<count).map { trajectory in clear.reduce(0) { $0 + $1[trajectory] } })
            // Nor is the KL finite where a u has underflowed.
            guard sum.mean > Self.fewestErrors * sum.error, whole.isFinite else {
                value = 1
                warning = "on held-out images \(moves.subject) cannot be told from noise; it is taken as it is. \(moves.remedy)"
                return
            }
            let missing = whole / sum.mean
            value = min(max(missing, moves.range.lowerBound), moves.range.upperBound)
            // Where the target hardly differs from the pretrained model, the share has no limit.
            let share = Int(min(100 / missing, 9999))
            let found = "on held-out images \(moves.subject) is \(share)% of what the target asks for"
            warning =
                switch moves {
                case _ where missing > moves.range.upperBound: "\(found). \(moves.remedy)"
                case .policy where missing < moves.range.lowerBound: "\(found). A lower learning rate of the policy goes less far"
                default: nil
                }
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

    /// Computes r / M at states [n, C, H, W], float32 [n], without gradients.
    func share(_ x: Tensor, times: Tensor, context: Tensor?) -> Tensor {
        withoutGradients { (-(-flow(x, times: times, context: context)).softplus()).exp() }
    }

    /// Computes grad log r at states [n, C, H, W], float32 of that shape, and r / M there, float32 [n]: both
    /// without gradients.
    /// - Parameters:
    ///   - times: int64 [n].
    ///   - context: text embedding [n, L, D]; nil without text.
    /// - Throws: `TensorError`, or `OrderError` if the network does not depend on the state.
    func callAsFunction(_ x: Tensor, times: Tensor, context: Tensor?) throws -> (gradient: Tensor, share: Tensor) {
        let weights = flow.parameters.map(\.tensor)
        for weight in weights { weight.requiresGrad = false }
        defer { for weight in weights { weight.requiresGrad = true } }
        let state = x.detach().clone()
        state.requiresGrad = true
        // log sigma(f) = log r - log M
        let logShare = -(-flow(state, times: times, context: context)).softplus()
        try logShare.sum().backward()
        guard let gradient = state.grad else { throw OrderError("the flow network does not depend on the state: it has no gradient") }
        return (gradient, logShare.detach().exp())
    }
}
