import Images
import Support

extension RewardEvaluator {
    /// Has every reward answer for a few images before a run relies on it: see `Reward.selfCheck`.
    ///
    /// A reward whose failures do not end the run need score only some of them.
    /// - Returns: a line for each reward that cannot score some.
    /// - Throws: `RewardError` that says what to mend; `Cancelled` if the monitor ends the wait.
    package func selfCheck(images: ImageBatch, prompts: [Prompt]? = nil) throws -> [String] {
        try terms.indices.compactMap { term in
            var gap: String?
            try terms[term].reward.selfCheck(images: images, prompts: prompts) { batch in
                let report = try finish(PendingReward(batch, by: [term], of: self))
                if let failure = report.firstFailure {
                    let line = "\(report.failures.count) of \(batch.count) images of the self-check cannot be scored: \(failure)"
                    guard report.failures.count < batch.count else { throw RewardError(line) }
                    gap = gap ?? line
                }
                return (0..<batch.count).flatMap { sample in report.objectives.map { $0.scores[sample] } }
            }
            return gap
        }
    }
}
