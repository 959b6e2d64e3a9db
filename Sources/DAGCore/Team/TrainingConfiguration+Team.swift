import Support

extension TrainingConfiguration {
    /// Returns the order in which the trajectories of an epoch are trained on: shuffled, those of one prompt
    /// together.
    func order(epoch: Int) -> [Int] {
        Seeds(seed).permutation(.shuffle, epoch: epoch, count: trajectoriesPerEpoch / imagesPerPrompt)
            .flatMap { $0 * imagesPerPrompt..<($0 + 1) * imagesPerPrompt }
    }

    /// Returns the trajectories of an epoch that a rank trains on, in the order of training: its share of the
    /// groups of each optimiser step. The rank that trains on a trajectory samples it, so that states never move.
    func trajectories(of rank: Int, in team: Team, epoch: Int) -> [Int] {
        order(epoch: epoch).chunks(of: trajectoriesPerUpdate).flatMap { step in
            let groups = step.chunks(of: trainBatchSize)
            return groups[team.share(of: groups.count, rank: rank)].joined()
        }
    }

    /// - Throws: `ConfigurationError` if there are more ranks than groups of trajectories.
    func validate(for team: Team) throws {
        let groups = gradientAccumulationSteps
        guard team.count > groups else { return }
        throw ConfigurationError(
            """
            \(team.count) processes share \(groups) groups of trajectories an optimiser step: start at most \(groups), or raise \
            \(setting: "gradient_accumulation_steps") and lower \(setting: "train_batch_size")
            """)
    }
}
