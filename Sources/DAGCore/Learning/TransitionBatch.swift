import Tensors

/// The scored trajectories of an epoch, as the learner sees them.
struct ScoredEpoch {
    /// The epoch's number, from 0.
    let index: Int
    let rollout: Rollout
    /// The text of the trajectories; nil for a model without text.
    let conditioning: Conditioning?
}

/// Transitions of some trajectories at a range of steps, step by step: n = [steps x trajectories].
struct TransitionBatch {
    /// The trajectories, by their places in the epoch.
    let block: [Int]
    let range: Range<Int>
    /// The trajectory and the step of each transition, [n].
    let trajectories, steps: [Int]
    /// The states before and after, float32 [n, C, H, W].
    let x, next: Tensor
    /// Step numbers, int64 [n], and the network's time inputs of them.
    let stepNumbers, times: Tensor
    private let epoch: ScoredEpoch
    /// The block's rows in the tensors of the rollout.
    private let rows: Tensor
    private let model: any DiffusionModel
    private let kernel: any TransitionKernel

    init(_ epoch: ScoredEpoch, _ block: [Int], _ range: Range<Int>, _ model: any DiffusionModel, _ kernel: any TransitionKernel) {
        self.epoch = epoch
        self.block = block
        self.range = range
        self.model = model
        self.kernel = kernel
        trajectories = range.flatMap { _ in block }
        steps = range.flatMap { step in block.map { _ in step } }
        stepNumbers = Tensor(steps.map(Int64.init), device: model.device)
        times = kernel.times(steps)
        // Copied to the device once: each copy waits for it.
        let rows = Tensor(epoch.rollout.rows(of: block).map(Int64.init), device: model.device)
        self.rows = rows
        x = Tensor.cat(range.map { epoch.rollout.states[$0].rows(rows) }, 0)
        next = Tensor.cat(range.map { epoch.rollout.states[$0 + 1].rows(rows) }, 0)
    }

    private var rollout: Rollout { epoch.rollout }

    /// Picks these transitions out of a list that has a tensor [M, ...] for each step.
    private func gather(_ list: [Tensor]) -> Tensor { Tensor.cat(range.map { list[$0].rows(rows) }, 0) }

    /// Evaluates the network: see `DiffusionModel.denoise`.
    func denoise(guidance: Double) -> (guided: Tensor, conditional: Tensor) {
        model.denoise(x, times: times, epoch.conditioning?.rows(trajectories), guidance: guidance)
    }

    /// The guided output at rollout, float32 [n, C, H, W].
    var guidedAtRollout: Tensor { gather(rollout.guided) }
    /// log P_F at rollout, float32 [n].
    var logForwardAtRollout: Tensor { gather(rollout.logForward) }

    /// log P_F of a guided output, float32 [n].
    func logForward(_ guided: Tensor) -> Tensor { kernel.logForward(guided, x: x, next: next, steps: stepNumbers) }

    /// log of the kernel that balances P_F, float32 [n]: P_B, or the base model's P_F for an anchored target.
    func logBackward(_ target: Target) -> Tensor {
        switch target {
        case .anchored: gather(rollout.logReference)
        case .reward: kernel.logBackward(x: x, next: next, steps: stepNumbers)
        }
    }

    /// The data predicted by a conditional output, [n, C, H, W].
    func predictedData(_ conditional: Tensor) -> Tensor { kernel.predictedData(conditional, x: x, steps: stepNumbers) }

    /// Scores of the predicted data at the range's states from the rollout, [steps][trajectories].
    var lookaheadAtRollout: [[Float]] { range.map { step in block.map { rollout.scores.lookahead[step][$0] } } }

    /// Scores at the state after the range at rollout, [trajectories]: of final images or predicted data.
    var scoresAtEnd: [Float] {
        let scores = range.upperBound == kernel.transitions ? rollout.scores.final : rollout.scores.lookahead[range.upperBound]
        return block.map { scores[$0] }
    }

    /// Weighs transitions [n]: zero for those of dropped trajectories and those at a state whose predicted
    /// data has no score, else one.
    /// - Parameter scores: [steps + 1][trajectories]; the last alone for algorithms without a flow.
    func weights(_ scores: [[Float]]) -> [Float] {
        range.indices.flatMap { step in
            block.indices.map { k in
                let place = scores.count == 1 ? 0...0 : step - range.lowerBound...step - range.lowerBound + 1
                return rollout.scores.final[block[k]].isNaN || scores[place].contains { $0[k].isNaN } ? 0 : 1
            }
        }
    }

    /// Evaluates log F(x_t) and log F(x_t'), float32 [n] each: beta s(predicted data) + f_phi,
    /// and beta s of the final image at the end.
    /// - Parameter scores: [steps + 1][trajectories]; finite.
    func logFlows(_ flow: any FlowNetwork, scores: [[Float]], beta: Double) -> (now: Tensor, next: Tensor) {
        let states = range.lowerBound...min(range.upperBound, kernel.transitions - 1)
        let context = epoch.conditioning?.prompts.rows(states.flatMap { _ in block })
        var learned = flow(
            Tensor.cat(states.map { rollout.states[$0].rows(rows) }, 0),
            times: kernel.times(states.flatMap { step in block.map { _ in step } }), context: context)
        if range.upperBound == kernel.transitions {
            learned = Tensor.cat([learned, Tensor.zeros([block.count], device: model.device)], 0)
        }
        let logFlow = learned + Tensor(scores.flatMap { $0 }, device: model.device) * beta
        let count = trajectories.count
        return (logFlow.narrow(0, 0, count), logFlow.narrow(0, block.count, count))
    }
}
