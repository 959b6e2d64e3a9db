extension RewardEvaluator {
    /// Running statistics of each reward's trained objective, which `normalize=true` uses. Only `observe` and
    /// this setter change them.
    package var normalization: [RunningMoments] {
        get { lock.withLock { moments } }
        set { lock.withLock { if newValue.count == terms.count { moments = newValue } } }
    }

    /// Whether a reward is to be normalised and there are no statistics yet.
    package var wantsStatistics: Bool { zip(terms, normalization).contains { $0.specification.normalize && $1.isEmpty } }

    /// Adds scored images to the statistics.
    /// - Parameter objectives: as in `RewardReport`.
    package func observe(_ objectives: [ObjectiveScores]) {
        lock.withLock {
            for (index, term) in terms.enumerated() {
                moments[index].add((objectives[term.trainedName] ?? []).filter(\.isFinite))
            }
        }
    }

    /// Names of the objectives that are trained.
    package var trainedNames: [String] { terms.filter { !$0.isHeldOut }.map(\.trainedName) }

    /// The trained reward without normalisation, which can be compared over a run: `[count]`, NaN where a
    /// score is missing.
    /// - Parameter objectives: as in `RewardReport`.
    package func total(_ objectives: [ObjectiveScores]) -> [Double] {
        terms.filter { !$0.isHeldOut }.reduce(into: [Double](repeating: 0, count: objectives.first?.scores.count ?? 0)) { sum, term in
            for (sample, value) in (objectives[term.trainedName] ?? []).enumerated() { sum[sample] += Double(term.factor) * Double(value) }
        }
    }

    /// The scores of held-out rewards, in order: the larger, the better.
    /// - Parameter objectives: as in `RewardReport`.
    package func heldOut(_ objectives: [ObjectiveScores]) -> [ObjectiveScores] {
        terms.filter(\.isHeldOut).map { term in
            let sign = term.reward.objectives[term.trained].direction.sign
            return ObjectiveScores(term.trainedName, (objectives[term.trainedName] ?? []).map { $0 * sign })
        }
    }
}
