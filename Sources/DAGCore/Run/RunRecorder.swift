import Foundation
import Images
import Rewards
import Support
import TensorBoard
import Tensors

/// Records a run in its folder: metrics, for TensorBoard too, checkpoints, sample sheets and the page. Finds what a
/// user is to be warned of.
final class RunRecorder {
    let output: OutputFolder
    private let configuration: TrainingConfiguration
    private let collector: RolloutCollector
    private let learner: Learner
    private let team: Team
    /// The state of the newest checkpoint, so that it is not written twice.
    private var saved: (state: TrainingState, hasRollout: Bool)?
    /// Lines of metrics.jsonl that are still to be written.
    private var unwritten: [Data] = []
    private let page: RunPage
    /// Made at the first line, when it is known whether the run is a new one.
    private var events: EventFile?
    /// Optimiser steps done when this process began.
    private var firstStep = 0

    init(
        _ configuration: TrainingConfiguration, output: OutputFolder, collector: RolloutCollector, learner: Learner, team: Team
    ) {
        self.configuration = configuration
        self.output = output
        self.collector = collector
        self.learner = learner
        self.team = team
        page = RunPage(output, configuration)
    }

    private var evaluator: RewardEvaluator { collector.evaluator }
    private var monitor: Monitor { evaluator.monitor }

    /// Shows scores that are to be trained on to the watch.
    /// - Parameter warning: the algorithm's own, given once a run.
    /// - Returns: warnings.
    func observe(_ scores: RolloutScores, _ warning: String?, _ state: inout TrainingState) -> [String] {
        let lines = [
            state.watch.observe(scores: scores.final, of: evaluator.trainedNames, by: configuration.algorithm),
            warning.flatMap { state.watch.once("algorithm", $0) },
        ]
        return lines.compactMap { $0.map { "epoch \(state.epoch): \($0)" } }
    }

    /// Adds a trained epoch to the statistics of the rewards and to the watch.
    /// - Returns: warnings.
    func observe(_ epoch: ScoredEpoch, _ summary: EpochSummary, _ state: inout TrainingState) -> [String] {
        let objectives = epoch.rollout.scores.objectives
        evaluator.observe(objectives)
        let watched = RewardWatch.Epoch(
            reward: Moments(evaluator.total(objectives)),
            heldOut: Dictionary(uniqueKeysWithValues: evaluator.heldOut(objectives).map { ($0.name, Moments($0.scores)) }),
            diversity: summary.diversity)
        return state.watch.observe(watched, advice: configuration.restraints).map { "epoch \(epoch.index): \($0)" }
    }

    /// Writes the checkpoint and the sample sheet that are due after the newest epoch, and the page.
    /// - Throws: `OutputError`, `TensorError`, or `Cancelled`.
    func record(_ state: TrainingState) throws {
        if isDue(every: configuration.checkpointEvery, state) { try save(state, rollout: nil) }
        if isDue(every: configuration.sampleEvery, state) { try saveSamples(state) }
        try writePage()
    }

    /// Writes report.html, on rank 0.
    /// - Throws: `OutputError`.
    func writePage() throws {
        if team.isLeader { try OutputFolder.writeAtomically(page.html(), to: output.page) }
    }

    /// Returns whether the newest epoch's sample sheet or the finished run's adapter is missing: the run may
    /// have stopped before it.
    func lacksFiles(_ state: TrainingState) throws -> Bool {
        if state.epoch > 0, isDue(every: configuration.sampleEvery, state),
            !FileManager.default.fileExists(atPath: output.sampleSheet(epoch: state.epoch).path)
        {
            return true
        }
        return try state.epoch == configuration.epochs && loras().contains { (try? Data(contentsOf: $0)) != $1 }
    }

    /// Returns whether a file is due that is written every `epochs` epochs (0: never) and after the last one.
    private func isDue(every epochs: Int, _ state: TrainingState) -> Bool {
        epochs > 0 && (state.epoch == configuration.epochs || state.epoch % epochs == 0)
    }

    /// Writes the adapter and a checkpoint, unless the newest one holds the same.
    /// - Parameter rollout: the scored trajectories of the epoch under way.
    /// - Throws: `OutputError`, `TensorError`.
    func save(_ state: TrainingState, rollout: Rollout?) throws {
        let rollout = try rollout?.gathered(by: team)
        guard team.isLeader else { return }
        // Without its metrics a step counts as not made: a resumed run makes it again.
        try writeMetrics(epoch: state.epoch)
        if let events { try output.write(events) }
        var state = state
        state.rewardMoments = evaluator.normalization
        state.metricsLength = output.metricsLength
        if let saved, saved == (state, rollout != nil) { return }
        try Checkpoint(
            state, algorithm: learner.algorithm, rewards: evaluator.fingerprint, prompts: collector.prompts.fingerprint,
            tensors: learner.tensors, rollout: rollout
        )
        .save(to: output)
        for (file, data) in try loras() { try OutputFolder.writeAtomically(data, to: file) }
        saved = (state, rollout != nil)
    }

    /// The adapter's file and, if it is kept, that of its average, with what they hold.
    private func loras() throws -> [(file: URL, data: Data)] {
        let trained = (output.lora, try learner.lora.encoded())
        guard let average = learner.average else { return [trained] }
        return [trained, (output.averagedLora, try average.inPlace({ try learner.lora.encoded() }))]
    }

    /// Restores learner, reward statistics and metrics.jsonl from the newest checkpoint of `folder`, which
    /// rank 0 reads.
    /// - Returns: the checkpoint, with the states of this rank's trajectories.
    /// - Throws: `OutputError` if there is none or it is another run's, `TensorFileError` if it does not fit.
    func restore(from folder: OutputFolder) throws -> Checkpoint {
        let whole = team.isLeader ? try newestCheckpoint(of: folder) : nil
        let checkpoint = try team.fromLeader("checkpoint") { rank in
            whole!.holding(configuration.trajectories(of: rank, in: team, epoch: whole!.state.epoch).sorted())
        }
        try learner.restore(checkpoint.tensors)
        try checkpoint.restore(learner.algorithm)
        evaluator.normalization = checkpoint.state.rewardMoments
        firstStep = checkpoint.state.step
        guard team.isLeader else { return checkpoint }
        if output.metricsLength < checkpoint.state.metricsLength {
            monitor.warn("\(output.metrics.path) is shorter than it was at the checkpoint: lines of steps before it are missing")
        }
        try output.truncateMetrics(to: checkpoint.state.metricsLength)
        return checkpoint
    }

    private func newestCheckpoint(of folder: OutputFolder) throws -> Checkpoint {
        let checkpoint = try Checkpoint(newestOf: folder, onDamage: monitor.warn)
        if let difference = evaluator.difference(from: checkpoint.rewards) {
            throw OutputError("\(setting: "resume") \(folder.url.path): that run was trained with other rewards: \(difference)")
        }
        if let then = checkpoint.prompts, then != collector.prompts.fingerprint {
            throw OutputError(
                """
                \(setting: "resume") \(folder.url.path): that run was trained with other prompts or metadata: \(then) then, \
                \(collector.prompts.fingerprint) now; put \(configuration.prompts) back as it was, or start a new run
                """)
        }
        if let rollout = checkpoint.rollout {
            let transitions = learner.kernel.transitions
            guard rollout.states.count == transitions + 1, rollout.count == configuration.trajectoriesPerEpoch,
                rollout.scores.lookahead.count == learner.lookahead.count,
                checkpoint.state.update < configuration.updatesPerEpoch
            else {
                throw OutputError(
                    "\(setting: "resume") \(folder.url.path): that run stopped in the middle of an epoch that had other settings")
            }
        }
        return checkpoint
    }

    /// Appends a line to metrics.jsonl, after warnings and after lines that could not be written before, and what
    /// TensorBoard shows of it to its event file, on rank 0.
    /// - Parameters:
    ///   - epoch: epochs done before the line.
    ///   - step: optimiser steps done, with that of the line.
    /// - Throws: `OutputError`; what could not be written is written before the next line, or before the next checkpoint.
    func append(_ line: some MetricsLine, epoch: Int, step: Int) throws {
        guard team.isLeader else { return _ = monitor.takeWarnings() }
        unwritten.append(try line.json())
        let events = eventFile(step: step)
        events.add(line.scalars, step: step)
        try writeMetrics(epoch: epoch)
        try output.write(events)
    }

    private func writeMetrics(epoch: Int) throws {
        unwritten = try monitor.takeWarnings().map { try Warning(epoch: epoch, text: $0).json() } + unwritten
        while let line = unwritten.first {
            try output.append(line)
            unwritten.removeFirst()
        }
    }

    /// Writes the warnings so far, and the page with them: for a run that ends without another checkpoint.
    /// - Throws: `OutputError`.
    func writeWarnings(_ state: TrainingState) throws {
        guard team.isLeader else { return }
        try writeMetrics(epoch: state.epoch)
        try writePage()
    }

    private func eventFile(step: Int) -> EventFile {
        if let events { return events }
        // What a continued run has drawn and evaluated at its checkpoint stays, what came after is made anew.
        let new = EventFile(in: output.tensorBoard, outdating: firstStep == 0 ? 0 : firstStep + 1)
        new.add(text: "| setting | value |\n|---|---|\n" + configuration.markdownRows, tag: "settings", step: step)
        events = new
        return new
    }

    /// Makes the metrics of an optimiser step.
    /// - Parameter state: after the step.
    func metrics(_ sums: StepSums, _ epoch: ScoredEpoch, _ summary: EpochSummary, _ state: TrainingState) -> StepMetrics {
        let scores = epoch.rollout.scores
        let score = Moments(evaluator.total(scores.objectives))
        let trained = (state.update - summary.firstUpdate) * learner.transitionsPerUpdate
        return StepMetrics(
            epoch: epoch.index, step: state.step - 1, rewardMean: score.mean, rewardStd: score.deviation,
            objectives: means(scores.objectives), diversity: summary.diversity, baseDivergence: summary.baseDivergence,
            loss: sums.mean(sums.loss), algorithmMetrics: sums.metrics.mapValues(sums.mean), ratioDeviation: sums.ratioDeviation,
            policyGradNorm: sums.policyGradNorm, flowGradNorm: sums.flowGradNorm, beta: configuration.beta(epoch: epoch.index),
            trajectories: (epoch.index + 1) * configuration.trajectoriesPerEpoch, dropped: scores.dropped,
            droppedTransitions: sums.droppedTransitions, imputed: scores.imputed + sums.imputed,
            transitionsPerSecond: Double(trained) / summary.start.seconds, scoringShare: summary.start.scoringShare(evaluator))
    }

    /// Writes samples/epoch-N.png, a sheet of fixed prompts and seeds, and with the first one these.
    /// - Throws: `OutputError`, `TensorError`, or `Cancelled`.
    func saveSamples(_ state: TrainingState) throws {
        let (prompts, seeds) = collector.prompts.fixedSamples(SampleSheet.count, Seeds(configuration.seed))
        let batches = try learner.withAverage {
            try team.map("sample sheet", Array(prompts.indices).chunks(of: configuration.sampleBatchSize)) { places in
                try collector.images(places.map { prompts[$0] }, seeds: places.map { seeds[$0] }, by: collector.evaluationSampler)
            }
        }
        guard team.isLeader else { return }
        if !FileManager.default.fileExists(atPath: output.samplePrompts.path) {
            try OutputFolder.writeAtomically(SampleSheet.list(prompts, seeds), to: output.samplePrompts)
        }
        let sheet = output.sampleSheet(epoch: state.epoch)
        try ImageBatch(concatenating: batches).writeSheet(columns: SampleSheet.columns, to: sheet)
        let tiles = try SampleSheet.Tiles(sheet)
        let events = eventFile(step: state.step)
        events.add(
            image: tiles.jpeg, height: SampleSheet.count / SampleSheet.columns * tiles.height, width: SampleSheet.columns * tiles.width,
            tag: "samples", step: state.step)
        try output.write(events)
    }
}
