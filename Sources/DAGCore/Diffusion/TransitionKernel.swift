import Tensors

/// The way in which a log-density over C x H x W dimensions becomes one number.
package enum LogProbabilityReduction: String, SettingChoice {
    /// The mean over dimensions: the choice of the paper's published code.
    case mean
    /// The sum: the true log-density.
    case sum
}

/// The two kernels of a chain of steps from noise to data (paper, section 3):
/// the denoising P_F(x' | x) and the noising P_B(x | x').
///
/// States are float32 [n, C, H, W]; `steps` are step numbers, int64 [n], counted from noise.
package protocol TransitionKernel {
    /// Steps of the chain.
    var stepCount: Int { get }
    /// Steps with noise: the edges of the GFlowNet. Later steps, without noise, are part of the decoder.
    var transitions: Int { get }

    /// Returns the network's time inputs of step numbers, int64 [n].
    func times(_ steps: [Int]) -> Tensor
    /// Returns the log-density of the noise that a chain starts from, [n].
    func logNoise(_ x: Tensor) -> Tensor
    /// Predicts the data x0 from the network's output [n, C, H, W].
    func predictedData(_ output: Tensor, x: Tensor, steps: Tensor) -> Tensor
    /// Draws x' from P_F with standard normal noise of `x`'s shape. Returns it and log P_F(x' | x) [n].
    func sample(_ output: Tensor, x: Tensor, noise: Tensor, steps: Tensor) -> (next: Tensor, logForward: Tensor)
    /// Returns log P_F(x' | x) [n], differentiable in the network's output.
    func logForward(_ output: Tensor, x: Tensor, next: Tensor, steps: Tensor) -> Tensor
    /// Returns log P_B(x | x') [n].
    func logBackward(x: Tensor, next: Tensor, steps: Tensor) -> Tensor
    /// Predicts the noise epsilon in x from the network's output, [n, C, H, W].
    func predictedNoise(_ output: Tensor, x: Tensor, steps: Tensor) -> Tensor
    /// Turns a gradient of a state's log-density into the change of the noise prediction that follows it,
    /// -sqrt(1 - abar) gradient (Song et al. 2021), [n, C, H, W].
    func noise(ofGradient gradient: Tensor, steps: Tensor) -> Tensor
    /// Draws x from P_B, given the chain's end x_0, with standard normal noise of `end`'s shape. Returns it
    /// and the noise prediction with which the mean of P_F(x' | x) is that of P_B(x' | x, x_0), [n, C, H, W]
    /// each.
    func replay(_ end: Tensor, noise: Tensor, steps: Tensor) -> (x: Tensor, noise: Tensor)
    /// Projects a change of the noise prediction on a transition from x to `next`, [n, C, H, W] each: the
    /// inner product [n] of the move of P_F's mean that the change leads to and of the move from the mean of a
    /// network's output to `next`, both in units of the step's deviation.
    func projection(of change: Tensor, on next: Tensor, from output: Tensor, x: Tensor, steps: Tensor) -> Tensor
    /// Returns KL(P_F || P_F') [n] of steps whose network outputs differ: in nats, for either reduction.
    func divergence(_ output: Tensor, from other: Tensor, x: Tensor, steps: Tensor) -> Tensor
}
