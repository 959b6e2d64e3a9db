import Foundation
import Support
import Synchronization

/// Finds the samples of a batch that cannot be scored, for a run that goes on without them.
///
/// A batch that fails as a whole is halved, and each part that fails is halved again. One faulty sample among
/// n then costs 2 log2(n) calls, where asking for each by itself would cost n. A reward that is broken
/// altogether must not cost more than that either, so two budgets bound the search; the parts that still fail
/// when one is used up are given up whole.
///
/// - Calls: 4 log2(n) + 8, enough to find two faulty samples wherever they are in the batch.
/// - Slow calls, which fail only when their time is up and so cost minutes: 4 after the first. A trajectory
///   that is given up over them is remembered and not asked for again with its other images: they would most
///   likely take as long.
final class FaultFinder: Sendable {
    /// The trajectory that an image belongs to. The id alone is not enough: ids begin anew with each
    /// evaluation.
    private struct Trajectory: Hashable { let id, seed: UInt64 }

    /// Calls that fail slowly, beyond the first, before the parts that still fail are given up.
    private static let slowCalls = 4

    private let timeout: Double
    private let slow = Mutex<Set<Trajectory>>([])

    /// - Parameter timeout: seconds that a call may take.
    init(timeout: Double) { self.timeout = timeout }

    /// Scores the samples of a batch that can be scored.
    /// - Throws: `RewardError` only if the batch is no longer wanted.
    func score(_ batch: RewardBatch, by reward: any Reward) throws -> RewardScores {
        var found = RewardScores(count: batch.count, objectives: reward.objectives.count)
        let trajectories = (0..<batch.count).map { Trajectory(id: batch.sampleIDs[$0], seed: batch.seeds[$0]) }
        let known = slow.withLock { $0 }
        for (place, trajectory) in trajectories.enumerated() where known.contains(trajectory) {
            found.fail(place, "reward \(reward.name) is not asked for sample \(trajectory.id) again: another image of it took too long")
        }
        let whole = trajectories.indices.filter { !known.contains(trajectories[$0]) }
        var parts = whole.isEmpty ? [] : [whole]
        var calls = 4 * Int(log2(Double(batch.count)).rounded(.up)) + 8
        var slowCalls = 0
        while !parts.isEmpty {
            let places = parts.removeFirst()
            var part = places.count == batch.count ? batch : try batch.part(places)
            // A crash by chance is forgiven once: by a second attempt at the whole batch. Its parts have had
            // that.
            part.attempts = places.count == whole.count ? 2 : 1
            let start = monotonicSeconds()
            do { found.take(try reward.score(part), at: places) } catch let error as RewardError {
                guard batch.isWanted() else { throw error }
                let isSlow = monotonicSeconds() - start >= timeout / 2
                if isSlow, places.count < whole.count { slowCalls += 1 }
                if places.count > 1, calls > 0, slowCalls < Self.slowCalls {
                    calls -= 2
                    parts += [Array(places[..<(places.count / 2)]), Array(places[(places.count / 2)...])]
                    continue
                }
                let untried = slowCalls > Self.slowCalls ? Array(parts.joined()) : []
                for place in places { found.fail(place, error.description) }
                for place in untried {
                    found.fail(
                        place,
                        "reward \(reward.name) is not asked for sample \(trajectories[place].id): others took too long, the last: \(error)")
                }
                if isSlow { slow.withLock { $0.formUnion((places + untried).map { trajectories[$0] }) } }
                if !untried.isEmpty { parts = [] }
            }
        }
        return found
    }
}
