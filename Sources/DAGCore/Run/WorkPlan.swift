/// Amounts of work, the same on every machine.
struct Work: Equatable {
    /// Network rows that are evaluated without gradients, and those that are trained on.
    var sampledRows = 0, trainedRows = 0
    /// Noised images that the flow alone is trained on.
    var flowRows = 0
    /// Decoded images of samples, and of predicted data.
    var decodes = 0, predictions = 0
    /// Images that the rewards score, and the batches in which they get them.
    var scores = 0, batches = 0

    static func + (a: Work, b: Work) -> Work {
        Work(
            sampledRows: a.sampledRows + b.sampledRows, trainedRows: a.trainedRows + b.trainedRows, flowRows: a.flowRows + b.flowRows,
            decodes: a.decodes + b.decodes, predictions: a.predictions + b.predictions, scores: a.scores + b.scores,
            batches: a.batches + b.batches)
    }

    static func * (count: Int, a: Work) -> Work {
        Work(
            sampledRows: count * a.sampledRows, trainedRows: count * a.trainedRows, flowRows: count * a.flowRows,
            decodes: count * a.decodes, predictions: count * a.predictions, scores: count * a.scores, batches: count * a.batches)
    }
}

/// What the parts of a run cost: functions of its settings. Tests hold them against what a run counts.
struct WorkPlan {
    let configuration: TrainingConfiguration
    /// Steps of a trajectory, those of them with noise, and steps of an image that is only looked at.
    let steps, transitions, evaluationSteps: Int
    /// Transitions of a trajectory that are trained on, and states whose predicted data is scored.
    let transitionsPerTrajectory, predictedStates: Int
    /// Network rows of one guided evaluation of one sample.
    let rowsPerSample: Int
    /// Trajectories that are sampled at once, and passes of an update over a group.
    let trajectoriesAtOnce, passes: Int
    /// Whether a reward is normalised, whose first statistics come from images of the untrained model.
    let wantsStatistics: Bool

    /// Draws images.
    private func images(_ count: Int, steps: Int) -> Work { Work(sampledRows: count * steps * rowsPerSample, decodes: count) }

    /// An epoch: roll out, score, update.
    /// - Parameter index: from zero. In the first the policy may still be the pretrained model, whose density
    ///   then costs nothing.
    func epoch(_ index: Int) -> Work {
        let isFirst = index == 0 && configuration.initLora.isEmpty
        let count = configuration.trajectoriesPerEpoch
        let sampled = (count + trajectoriesAtOnce - 1) / trajectoriesAtOnce
        let groups = count / configuration.trainBatchSize
        var work = images(count, steps: steps)
        if configuration.algorithm.replays {
            // The policy, and the pretrained model.
            work.trainedRows = 2 * configuration.replayUpdates * configuration.trajectoriesPerUpdate * rowsPerSample
            work.flowRows = configuration.flowUpdatesPerEpoch * configuration.trajectoriesPerUpdate
            // The scale of the flow's gradient, and that of the policy's moves.
            let images = (index + 1) * count
            let known = configuration.replayBufferSize == 0 ? count : min(count, configuration.replayBufferSize)
            let heldOut = images / 10 - (images - known) / 10
            if configuration.measuresGradientScale, heldOut >= FlowGradient.Scale.fewest {
                work.sampledRows += (configuration.replayUpdates > 1 ? 3 : 1) * heldOut * transitions * rowsPerSample
                // For the policy's moves the flow has no backward pass: not counted.
                work.flowRows += heldOut * transitions
            }
        } else {
            work.trainedRows = configuration.evaluationsPerTransition * count * transitionsPerTrajectory * rowsPerSample
        }
        // The distance to the pretrained model, at some steps of some trajectories.
        work.sampledRows += min(8, count) * min(8, transitions) * rowsPerSample
        if configuration.target == .anchored, !isFirst { work.sampledRows += count * transitions * rowsPerSample }
        if configuration.balancesSeveralTransitions {
            // Sums over trajectories come before each step; at the first, the weights are the rollout's.
            work.sampledRows += (count - configuration.trajectoriesPerUpdate) * transitions * rowsPerSample
        }
        work.predictions = count * predictedStates
        work.scores = count + work.predictions
        let predictedBatches = configuration.forwardLooking == .rollout ? sampled * predictedStates : groups * passes
        work.batches = sampled + (predictedStates > 0 ? predictedBatches : 0)
        return work
    }

    /// A sample sheet.
    var sheet: Work { images(SampleSheet.count, steps: evaluationSteps) }

    /// An evaluation.
    var evaluation: Work {
        let count = configuration.evaluationSamples
        var work = images(count, steps: evaluationSteps)
        work.scores = count
        work.batches = (count + configuration.sampleBatchSize - 1) / configuration.sampleBatchSize
        return work
    }

    /// The self-checks before training, without their scores.
    var selfCheck: Work {
        let count = max(4, configuration.trainBatchSize)
        var work = images(count, steps: steps) + images(4, steps: steps)
        work.sampledRows += Set([0, transitions / 2, transitions - 1]).count * count * rowsPerSample
        if configuration.reweighsTransitions { work.sampledRows += 2 * transitions * rowsPerSample }
        if !configuration.predictionDecoder.isEmpty { work.predictions = count }
        return work
    }

    /// The whole run.
    var run: Work {
        let (epochs, every) = (configuration.epochs, configuration.sampleEvery)
        // One before training, one every few epochs, and one after the last.
        let sheets = every == 0 ? 0 : 1 + (epochs + every - 1) / every
        let statistics = wantsStatistics ? images(configuration.sampleBatchSize, steps: steps) : Work()
        let evaluations = configuration.evaluationSamples > 0 ? 2 : 0
        let trained = (0..<epochs).map(epoch).reduce(Work(), +)
        return selfCheck + statistics + sheets * sheet + evaluations * evaluation + trained
    }
}

extension Trainer {
    /// What this run costs.
    var plan: WorkPlan {
        let (sampler, model) = (collector.sampler, learner.model)
        return WorkPlan(
            configuration: configuration, steps: sampler.kernel.stepCount, transitions: sampler.kernel.transitions,
            evaluationSteps: collector.evaluationSampler.kernel.stepCount,
            transitionsPerTrajectory: learner.transitionsPerTrajectory, predictedStates: learner.flowStates.predicted.count,
            rowsPerSample: model.rowsPerSample(guidance: configuration.guidanceScale),
            trajectoriesAtOnce: configuration.trajectoriesAtOnce(of: model),
            passes: learner.passes(over: Array(0..<learner.transitionsPerTrajectory)).count,
            wantsStatistics: collector.evaluator.wantsStatistics)
    }
}
