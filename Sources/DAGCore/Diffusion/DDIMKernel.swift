import Foundation
import Models
import Tensors

/// The Gaussian kernels of DDIM with noise (Song et al. 2021, eq. 12 and 16) on a strided schedule.
///
///     sigma^2 = eta^2 (1 - abar') / (1 - abar) (1 - abar / abar')
///     mu      = sqrt(abar') x0 + sqrt(1 - abar' - sigma^2) epsilon
///     P_F(x' | x) = Normal(mu, sigma^2 I)
///     P_B(x | x') = Normal(sqrt(a) x', (1 - a) I),  a = abar / abar'
///
/// Coefficients are computed in double precision and applied in float32; x0 is predicted from float32 levels,
/// as in diffusers.
package struct DDIMKernel: TransitionKernel {
    /// The steps of the chain, from noise to data.
    package let steps: [DDIMScheduler.Step]
    /// Steps with noise: a last step whose target is the data itself has none.
    package let transitions: Int
    /// Steps of the chain.
    package var stepCount: Int { steps.count }
    private let scheduler: DDIMScheduler
    private let reduction: LogProbabilityReduction
    private let table: Tensor  // [steps, 6] float32 on the device
    private let replayTable: Tensor  // [transitions, 5], as above
    private let rank: Int
    private let device: Device

    /// Computes the coefficients of every step.
    /// - Parameters:
    ///   - eta: scale of the noise; 1 is the DDPM chain, 0 deterministic DDIM.
    ///   - sampleRank: dimensions of a batch of samples (4 for images).
    /// - Throws: `ModelError` if the schedule has fewer steps.
    package init(
        scheduler: DDIMScheduler, steps count: Int, eta: Double, reduction: LogProbabilityReduction = .mean, sampleRank: Int = 4,
        device: Device = .cpu
    ) throws {
        self.scheduler = scheduler
        self.reduction = reduction
        rank = sampleRank
        self.device = device
        let steps = try scheduler.steps(count)
        self.steps = steps
        let variances = steps.map { step in
            let decay = step.alphaNext > 0 ? max(0, 1 - step.alpha / step.alphaNext) : 0
            return eta * eta * (1 - step.alphaNext) / (1 - step.alpha) * decay
        }
        transitions = variances.last == 0 ? steps.count - 1 : steps.count
        let rows = zip(steps, variances).map { step, variance -> [Float] in
            let a = step.alpha / step.alphaNext
            return [
                step.alpha, step.alphaNext.squareRoot(), max(0, 1 - step.alphaNext - variance).squareRoot(), variance.squareRoot(),
                a.squareRoot(), max(0, 1 - a).squareRoot(),
            ].map(Float.init)
        }
        table = Tensor(rows.flatMap { $0 }, shape: [steps.count, 6], device: device)
        replayTable = Self.replayTable(Array(zip(steps, variances).prefix(transitions)), device)
    }

    /// Computes the coefficients of `replay`. With r = abar / abar(end) and r' alike,
    ///
    ///     x                    = sqrt(r) x_0 + sqrt(1 - r) noise
    ///     mean of P_B(x'|x,x_0) = sqrt(r') (1 - a) / (1 - r) x_0 + sqrt(a) (1 - r') / (1 - r) x
    ///     mu(epsilon)          = sqrt(abar' / abar) x + (sqrt(1 - abar' - sigma^2) - sqrt(abar' / abar (1 - abar))) epsilon
    ///
    /// and of `projection`: 1 / sqrt(abar), or 0 without any signal.
    private static func replayTable(_ steps: [(DDIMScheduler.Step, Double)], _ device: Device) -> Tensor {
        let end = steps.last?.0.alphaNext ?? 1
        let rows = steps.flatMap { step, variance -> [Float] in
            // Without any signal in x every prediction of the noise is x itself.
            guard step.alpha > 0 else { return [0, 1, 0, 1, 0] }
            let (r, next, a) = (step.alpha / end, step.alphaNext / end, step.alpha / step.alphaNext)
            let growth = 1 / a.squareRoot()
            let slope = max(0, 1 - step.alphaNext - variance).squareRoot() - growth * (1 - step.alpha).squareRoot()
            return [
                r.squareRoot(), (1 - r).squareRoot(), next.squareRoot() * (1 - a) / (1 - r) / slope,
                (a.squareRoot() * (1 - next) / (1 - r) - growth) / slope, 1 / step.alpha.squareRoot(),
            ].map(Float.init)
        }
        return Tensor(rows, shape: [steps.count, 5], device: device)
    }

    /// A column of the table for each sample, of a shape that broadcasts over the sample.
    private struct Coefficients {
        let alpha, x0, epsilon, sigma, backwardMean, backwardDeviation: Tensor
    }

    private func columns(_ table: Tensor, _ steps: Tensor) -> [Tensor] {
        let rows = table.indexSelect(0, steps)
        return (0..<rows.size(1)).map { rows.narrow(1, $0, 1).reshape([rows.size(0)] + Array(repeating: 1, count: rank - 1)) }
    }

    private func coefficients(_ steps: Tensor) -> Coefficients {
        let columns = columns(table, steps)
        return Coefficients(
            alpha: columns[0], x0: columns[1], epsilon: columns[2], sigma: columns[3], backwardMean: columns[4],
            backwardDeviation: columns[5])
    }

    /// Returns the training timesteps t of step numbers, int64 [n].
    package func times(_ steps: [Int]) -> Tensor { Tensor(steps.map { Int64(self.steps[$0].time) }, device: device) }

    /// Returns the log-density of the standard normal noise that a chain starts from, [n].
    package func logNoise(_ x: Tensor) -> Tensor { logDensity(x, Tensor.zeros([1], device: device), Tensor.full([1], 1, device: device)) }

    /// Predicts the data x0 from the network's output, float32 [n, ...].
    package func predictedData(_ output: Tensor, x: Tensor, steps indices: Tensor) -> Tensor {
        scheduler.prediction(output, x: x, alpha: coefficients(indices).alpha).x0
    }

    /// Predicts the noise epsilon in x from the network's output, float32 [n, ...].
    package func predictedNoise(_ output: Tensor, x: Tensor, steps indices: Tensor) -> Tensor {
        scheduler.prediction(output, x: x, alpha: coefficients(indices).alpha).epsilon
    }

    /// Turns a gradient of a state's log-density into the change of the noise prediction that follows it.
    package func noise(ofGradient gradient: Tensor, steps indices: Tensor) -> Tensor {
        gradient * -(1 - coefficients(indices).alpha).sqrt()
    }

    /// Draws x from P_B, given the chain's end, and finds the noise prediction that leads P_F back.
    package func replay(_ end: Tensor, noise: Tensor, steps indices: Tensor) -> (x: Tensor, noise: Tensor) {
        let c = columns(replayTable, indices)
        let x = c[0] * end + c[1] * noise
        return (x, c[2] * end + c[3] * x)
    }

    /// Draws the next state x' from P_F. Returns it and log P_F(x' | x) [n].
    package func sample(_ output: Tensor, x: Tensor, noise: Tensor, steps indices: Tensor) -> (next: Tensor, logForward: Tensor) {
        let c = coefficients(indices)
        let mean = forwardMean(output, x, c)
        let next = mean + c.sigma * noise
        return (next, logDensity(next, mean, c.sigma))
    }

    /// Returns log P_F(x' | x) [n], differentiable in the network's output.
    package func logForward(_ output: Tensor, x: Tensor, next: Tensor, steps indices: Tensor) -> Tensor {
        let c = coefficients(indices)
        return logDensity(next, forwardMean(output, x, c), c.sigma)
    }

    /// Returns log P_B(x | x') [n].
    package func logBackward(x: Tensor, next: Tensor, steps indices: Tensor) -> Tensor {
        let c = coefficients(indices)
        return logDensity(x, c.backwardMean * next, c.backwardDeviation)
    }

    /// Projects a change of the noise prediction on the move from an output's mean to `next`.
    package func projection(of change: Tensor, on next: Tensor, from output: Tensor, x: Tensor, steps indices: Tensor) -> Tensor {
        let (c, perSignal) = (coefficients(indices), columns(replayTable, indices)[4])
        let noise = (1 - c.alpha).sqrt()
        func mean(_ epsilon: Tensor) -> Tensor {
            c.x0 * scheduler.clipped((x - noise * epsilon) * perSignal) + c.epsilon * epsilon
        }
        let epsilon = scheduler.prediction(output, x: x, alpha: c.alpha).epsilon
        let (move, own) = (mean(epsilon + change) - mean(epsilon), next - forwardMean(output, x, c))
        return ((move / c.sigma) * (own / c.sigma)).sum(Array(1..<rank))
    }

    /// Returns KL(P_F || P_F') [n] of steps whose network outputs differ: in nats, for either reduction.
    package func divergence(_ output: Tensor, from other: Tensor, x: Tensor, steps indices: Tensor) -> Tensor {
        let c = coefficients(indices)
        return ((forwardMean(output, x, c) - forwardMean(other, x, c)) / c.sigma).square().sum(Array(1..<rank)) * 0.5
    }

    private func forwardMean(_ output: Tensor, _ x: Tensor, _ c: Coefficients) -> Tensor {
        let (x0, epsilon) = scheduler.prediction(output, x: x, alpha: c.alpha)
        return c.x0 * x0 + c.epsilon * epsilon
    }

    /// Gaussian log-density, reduced over all dimensions but the first.
    private func logDensity(_ x: Tensor, _ mean: Tensor, _ deviation: Tensor) -> Tensor {
        let z = (x - mean) / deviation
        let density = z.square() * -0.5 - deviation.log() - 0.5 * Foundation.log(2 * .pi)
        let dims = Array(1..<rank)
        return reduction == .mean ? density.mean(dims) : density.sum(dims)
    }
}
