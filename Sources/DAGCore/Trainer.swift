import Images
import Models
import NN
import Rewards
import Support
import Tensors

/// Post-trains a diffusion model so that it samples in proportion to exp(beta s), where s is the score of a
/// black-box reward: collects trajectories, learns from them, records the result, and repeats.
package final class Trainer {
    /// The settings, as resolved.
    package let configuration: TrainingConfiguration
    /// Carries progress, notes and warnings out, and cancellation in.
    package let monitor: Monitor
    /// The processes of the run.
    package let team: Team
    /// Called after each optimiser step.
    package var onStep: (StepMetrics) -> Void = { _ in }
    /// The newest epoch's images and their scores, until the next epoch's: nil before the first.
    package private(set) var samples: ScoredSamples?

    let collector: RolloutCollector  // prompts and seeds -> trajectories -> scores
    let learner: Learner  // trajectories -> gradients -> LoRA and state flow
    let recorder: RunRecorder  // metrics, sample sheets, checkpoints
    /// The prompts that `evaluate` draws.
    let evaluationPrompts: PromptSet
    let seeds: Seeds
    private(set) var state = TrainingState()
    private var stage = Stage.idle

    /// The stages of an epoch, in their order.
    private enum Stage {
        case idle
        /// There are trajectories; the last batch may still be in scoring.
        case sampled(PendingRollout, start: EpochStart)
        case scored(ScoredEpoch, EpochSummary)
        /// All optimiser steps are done; a checkpoint or sample sheet may have to be written.
        case trained
    }

    /// Prepares training of a loaded model, on the model's device and in its precision. Writes nothing.
    /// - Parameters:
    ///   - prompts: trajectories are sampled for these; ignored by models without text.
    ///   - evaluationPrompts: evaluations draw these; nil: `prompts`.
    ///   - team: the processes of the run, all of which make this trainer and the same calls of it.
    ///   - makeFlow: makes the network of the state flow; nil: the configuration's.
    /// - Throws: `ConfigurationError`, `ModelError` or `TensorError`.
    package init(
        _ configuration: TrainingConfiguration, model: any DiffusionModel, evaluator: RewardEvaluator, prompts: PromptSet,
        evaluationPrompts: PromptSet? = nil, output: OutputFolder, team: Team = Team(),
        makeFlow: ((ParameterStore) throws -> any FlowNetwork)? = nil
    ) throws {
        self.configuration = configuration
        self.team = team
        monitor = evaluator.monitor
        team.serve(monitor)
        seeds = Seeds(configuration.seed)
        func sampler(steps: Int) throws -> Sampler {
            let kernel = try model.kernel(steps: steps, eta: configuration.eta, reduction: configuration.logProbReduction)
            return Sampler(model: model, kernel: kernel, guidance: configuration.guidanceScale)
        }
        let training = try sampler(steps: configuration.steps)
        let evaluation = configuration.evaluationSteps > 0 ? try sampler(steps: configuration.evaluationSteps) : training
        let collector = RolloutCollector(
            configuration, sampler: training, evaluationSampler: evaluation, evaluator: evaluator, prompts: prompts, monitor: monitor,
            team: team)
        self.collector = collector
        learner = try Learner(
            configuration, model: model, kernel: training.kernel, monitor: monitor, team: team,
            scorePredictions: { try collector.scorePredictions($0, $1, trajectories: $2) }, makeFlow: makeFlow)
        recorder = RunRecorder(configuration, output: output, collector: collector, learner: learner, team: team)
        self.evaluationPrompts = evaluationPrompts ?? prompts
    }

    deinit { collector.evaluator.abandon() }

    /// The pretrained model with the adapters attached.
    package var model: any DiffusionModel { learner.model }
    /// Epochs that are complete, by this run and those that it continues.
    package var epochsDone: Int { state.epoch }
    /// Optimiser steps done in the epoch under way.
    package var updatesDone: Int { state.update }
    /// Optimiser steps done, by this run and those that it continues.
    package var stepsDone: Int { state.step }

    // MARK: The main path

    /// Trains until the last epoch.
    /// - Throws: `Cancelled`, or the error that ended it early, after saving.
    package func run() throws {
        while state.epoch < configuration.epochs { try runEpoch() }
        try savingOnFailure { try record() }
    }

    /// Runs one epoch, or completes the one under way: roll out, score, update to the end, record.
    /// - Throws: `Cancelled`, or the error that ended it early, after saving.
    package func runEpoch() throws {
        try savingOnFailure {
            if !isUnderWay { try rollOut() }
            if case .sampled = stage { try score() }
            while case .scored = stage { try update() }
            try record()
        }
    }

    /// Samples the trajectories of the next epoch, while they are being scored.
    /// - Throws: `OrderError` if an epoch is under way or all are done, an error of a reward, `TensorError`,
    ///   `Cancelled`, or an error of `record`; scores that are pending are then given up.
    package func rollOut() throws {
        guard !isUnderWay else { throw OrderError("epoch \(state.epoch) has trajectories already: score them or update") }
        try record()
        guard state.epoch < configuration.epochs else {
            throw OrderError("all \(configuration.epochs) epochs are done; to train on, resume with more epochs")
        }
        let start = EpochStart(collector.evaluator)
        let pending = try team.together("roll out") { try collector.rollOut(epoch: state.epoch, lookahead: learner.lookahead) }
        stage = .sampled(pending, start: start)
    }

    /// Waits for the scores of the trajectories. An error other than `Cancelled` discards the trajectories.
    /// - Throws: `OrderError` if there are no trajectories, `TrainingError` if none has a score, an error of
    ///   a reward, `TensorError`, or `Cancelled`; scores that are pending are then given up.
    package func score() throws {
        guard case .sampled(let pending, let start) = stage else { throw OrderError("there are no trajectories to score: roll out first") }
        defer { collector.evaluator.abandon() }
        do {
            try team.together("score") {
                let rollout = try pending.wait().completed(by: team, objectives: collector.evaluator.objectiveNames)
                try warnOfFailures(rollout.scores)
                try learner.keep(rollout)
                let warning = learner.algorithm.prepareEpoch(scores: rollout.scores.final, prompts: rollout.prompts)
                recorder.observe(rollout.scores, warning, &state).forEach(monitor.warn)
                try train(on: rollout, start: start)
            }
        } catch {
            if !(error is Cancelled) { stage = .idle }
            throw error
        }
    }

    /// Makes one optimiser step on the next trajectories. It counts even if its metrics cannot be written
    /// yet.
    /// - Throws: `OrderError` if there are no scored trajectories, `OutputError` if its metrics cannot be
    ///   written, or an error of `Learner.step`, after which all is as before the step.
    package func update() throws {
        guard case .scored(let epoch, let summary) = stage else {
            throw OrderError("there are no scored trajectories: roll out and score first")
        }
        let metrics = try team.together("update") {
            try monitor.throwIfCancelled()
            let sums = try learner.step(epoch, update: state.update, step: state.step)
            if let warning = state.watch.observe(sums) { monitor.warn("step \(state.step): \(warning)") }
            state.update += 1
            state.step += 1
            let metrics = recorder.metrics(sums, epoch, summary, state)
            if state.update == configuration.updatesPerEpoch {
                recorder.observe(epoch, summary, &state).forEach(monitor.warn)
                state.epoch += 1
                state.update = 0
                stage = .trained
            }
            try recorder.append(metrics, epoch: epoch.index, step: state.step)
            return metrics
        }
        onStep(metrics)
    }

    /// Writes the checkpoint and the sample sheet that are due after a trained epoch; nothing at other times.
    /// - Throws: `OutputError`, `TensorError` or `Cancelled`; the next epoch begins with another attempt.
    package func record() throws {
        guard case .trained = stage else { return }
        try team.together("record") { try recorder.record(state) }
        stage = .idle
    }

    /// Whether there are trajectories that have not all been trained on.
    private var isUnderWay: Bool {
        switch stage {
        case .sampled, .scored: true
        case .idle, .trained: false
        }
    }

    /// Writes the adapter and a checkpoint.
    /// - Throws: `OutputError`, `TensorError`.
    package func save() throws { try team.together("save") { try recorder.save(state, rollout: rollout) } }

    private func savingOnFailure(_ body: () throws -> Void) throws {
        do { try body() } catch {
            let isNotFinite = error is NotFiniteError
            if ((try? team.exchange("not finite", isNotFinite)) ?? [isNotFinite]).contains(true) {
                try? recorder.writeWarnings(state)
                // A checkpoint of these weights would take the place of one that can go on.
                let wayBack = Checkpoint.wayBack(from: state, in: recorder.output)
                if let error = error as? NotFiniteError { throw NotFiniteError("\(error.message); \(wayBack)") }
                throw TeamError("\(error); \(wayBack)")
            }
            do { try save() } catch {
                monitor.warn("training since the newest checkpoint is not saved: \(ErrorReport.line(for: error, .key))")
            }
            throw error
        }
    }

    /// The scored trajectories of the epoch under way.
    var rollout: Rollout? { if case .scored(let epoch, _) = stage { epoch.rollout } else { nil } }

    /// Gives up pending scores and their trajectories. No reward is at work when this returns.
    package func abandonScores() {
        if case .sampled = stage { stage = .idle }
        collector.evaluator.abandonAndWait()
    }

    /// Makes scored trajectories those that `update` trains on.
    /// - Throws: `TensorError`.
    private func train(on rollout: Rollout, start: EpochStart) throws {
        let epoch = ScoredEpoch(index: state.epoch, rollout: rollout, conditioning: try model.encode(rollout.prompts.map(\.text)))
        // An update takes the most memory, and needs no text but this.
        model.releaseTextEncoder()
        let images = try rollout.images ?? collector.finalImages(rollout)
        let summary = EpochSummary(
            diversity: collector.prompts.diversity(images, prompts: rollout.prompts),
            baseDivergence: try collector.baseDivergence(epoch), start: start, firstUpdate: state.update)
        samples = collector.samples(of: epoch, images: images)
        stage = .scored(epoch, summary)
    }

    /// Warns of images that could not be scored.
    /// - Throws: `TrainingError` if no trajectory has a score.
    private func warnOfFailures(_ scores: RolloutScores) throws {
        guard let failure = scores.firstFailure else { return }
        let count = scores.final.count
        guard scores.dropped < count else {
            throw TrainingError("all \(count) trajectories of epoch \(state.epoch) were dropped: \(failure)")
        }
        let what = shortfall(dropped: scores.dropped, of: "\(count) trajectories", imputed: scores.imputed)
        monitor.warn("epoch \(state.epoch): \(what): \(failure)")
    }

    /// Fills the fresh adapters with those that a new run is to start from.
    /// - Throws: `TensorFileError`, `ConfigurationError`.
    package func start() throws { try learner.start() }

    /// Continues from the newest checkpoint of `folder`, which rank 0 reads.
    /// - Throws: `OutputError` if there is none or it is another run's, `TensorFileError`, `TensorError`.
    package func resume(from folder: OutputFolder) throws {
        let start = EpochStart(collector.evaluator)
        try team.together("resume") {
            let checkpoint = try recorder.restore(from: folder)
            state = checkpoint.state
            if var rollout = checkpoint.rollout?.moved(to: model.device) {
                rollout.scores = rollout.scores.ordered(collector.evaluator.objectiveNames)
                try train(on: rollout, start: start)
            } else if try team.leads("files", { try recorder.lacksFiles(state) }) {
                stage = .trained
            }
        }
    }
}
