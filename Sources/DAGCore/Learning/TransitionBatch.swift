import Tensors

/// The scored trajectories of an epoch, as the learner sees them.
struct ScoredEpoch {
    /// The epoch's number, from 0.
    let index: Int
    let rollout: Rollout
    /// The text of the trajectories; nil for a model without text.
    let conditioning: Conditioning?
}

/// Transitions of some trajectories at some steps, step by step: n = [steps x trajectories].
struct TransitionBatch {
    /// The trajectories, by their places in the epoch.
    let block: [Int]
    /// The steps, ascending.
    let chosen: [Int]
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

    init(_ epoch: ScoredEpoch, _ block: [Int], _ chosen: [Int], _ model: any DiffusionModel, _ kernel: any TransitionKernel) {
        self.epoch = epoch
        self.block = block
        self.chosen = chosen
        self.model = model
        self.kernel = kernel
        trajectories = chosen.flatMap { _ in block }
        steps = chosen.flatMap { step in block.map { _ in step } }
        stepNumbers = Tensor(steps.map(Int64.init), device: model.device)
        times = kernel.times(steps)
        // Copied to the device once: each copy waits for it.
        let rows = Tensor(epoch.rollout.rows(of: block).map(Int64.init), device: model.device)
        self.rows = rows
        x = Tensor.cat(chosen.map { epoch.rollout.states[$0].rows(rows) }, 0)
        next = Tensor.cat(chosen.map { epoch.rollout.states[$0 + 1].rows(rows) }, 0)
    }

    private var rollout: Rollout { epoch.rollout }

    /// Picks these transitions out of a list that has a tensor [M, ...] for each step.
    private func gather(_ list: [Tensor]) -> Tensor { Tensor.cat(chosen.map { list[$0].rows(rows) }, 0) }

    /// The text of the trajectories, by transition; nil for a model without text.
    var conditioning: Conditioning? { epoch.conditioning?.rows(trajectories) }

    /// Evaluates the network: see `DiffusionModel.denoise`.
    func denoise(guidance: Double) -> (guided: Tensor, conditional: Tensor) {
        model.denoise(x, times: times, conditioning, guidance: guidance)
    }

    /// The guided output at rollout, float32 [n, C, H, W].
    var guidedAtRollout: Tensor { gather(rollout.guided) }
    /// log P_F at rollout, float32 [n].
    var logForwardAtRollout: Tensor { gather(rollout.logForward) }

    /// log P_F of a guided output, float32 [n].
    func logForward(_ guided: Tensor) -> Tensor { kernel.logForward(guided, x: x, next: next, steps: stepNumbers) }

    /// KL(P_F || P_base) of each step, float32 [n], differentiable in the guided output: in nats, or divided by
    /// the dimensions where log-densities are means over these.
    func baseDivergence(_ guided: Tensor, guidance: Double, _ reduction: LogProbabilityReduction) -> Tensor {
        let base = withoutGradients { model.withoutAdapters { denoise(guidance: guidance).guided } }
        let divergence = kernel.divergence(guided, from: base, x: x, steps: stepNumbers)
        return reduction == .sum ? divergence : divergence / Double(model.sampleShape.reduce(1, *))
    }

    /// log of the kernel that balances P_F, float32 [n]: P_B, or the base model's P_F for an anchored target.
    func logBackward(_ target: Target) -> Tensor {
        switch target {
        case .anchored: gather(rollout.logReference)
        case .reward: kernel.logBackward(x: x, next: next, steps: stepNumbers)
        }
    }

    /// The data predicted by a conditional output, [n, C, H, W].
    func predictedData(_ conditional: Tensor) -> Tensor { kernel.predictedData(conditional, x: x, steps: stepNumbers) }

    /// The states before and after the steps, ascending.
    private var states: [Int] { Set(chosen + chosen.map { $0 + 1 }).sorted() }

    /// The scores at rollout of the states before and after the steps that have a flow, [trajectories] each,
    /// by state.
    func scoresAtRollout(_ flowStates: FlowStates) -> [Int: [Float]] {
        states.reduce(into: [:]) { scores, state in
            guard let all = flowStates.scores(rollout.scores, at: state) else { return }
            scores[state] = block.map { all[$0] }
        }
    }

    /// Weighs transitions [n]: zero for those of dropped trajectories and those at a state whose predicted
    /// data has no score, else one.
    /// - Parameter scores: [trajectories], by state.
    func weights(_ scores: [Int: [Float]]) -> [Float] {
        chosen.flatMap { step in
            block.indices.map { k in
                rollout.scores.final[block[k]].isNaN || [step, step + 1].contains { scores[$0]?[k].isNaN == true } ? 0 : 1
            }
        }
    }

    /// Evaluates log F(x_t) and log F(x_t'), float32 [n] each: beta s(predicted data) + f_phi, beta s of the
    /// final image at the end, and zero for a state without a flow. Without a network the flow of the
    /// starting noise is its density, to a factor Z, which cancels for an anchored target.
    /// - Parameter scores: [trajectories], by state with a flow; finite.
    func logFlows(_ flow: (any FlowNetwork)?, scores: [Int: [Float]], beta: Double, target: Target) -> (now: Tensor, next: Tensor) {
        let flowing = states.filter { scores[$0] != nil }
        let learned = flowing.filter { $0 < kernel.transitions }
        var logFlow = Tensor(flowing.flatMap { scores[$0]! }, device: model.device) * beta
        if let flow, !learned.isEmpty {
            let values = flow(
                Tensor.cat(learned.map { rollout.states[$0].rows(rows) }, 0),
                times: kernel.times(learned.flatMap { step in block.map { _ in step } }),
                context: epoch.conditioning?.prompts.rows(learned.flatMap { _ in block }))
            let end = Tensor.zeros([(flowing.count - learned.count) * block.count], device: model.device)
            logFlow = Tensor.cat([values, end], 0) + logFlow
        }
        let none = Tensor.zeros([block.count], device: model.device)
        func column(_ state: Int) -> Tensor {
            if flow == nil, state == 0, target == .reward { return kernel.logNoise(rollout.states[0].rows(rows)) }
            return flowing.firstIndex(of: state).map { logFlow.narrow(0, $0 * block.count, block.count) } ?? none
        }
        return (Tensor.cat(chosen.map(column), 0), Tensor.cat(chosen.map { column($0 + 1) }, 0))
    }
}
