import Foundation
import Support
import Synchronization

/// Finds out which samples of a batch cannot be scored, for a run that goes on without them.
///
/// A batch that fails as a whole is halved, and so are the halves that fail, again and again. Two samples at fault are found whatever the
/// batch; what still fails after so many calls is given up. A call that fails only when its time is up costs much more than others, so few
/// of those are made, and a trajectory that was given up over them is not asked for again with its other pictures.
final class Salvage: Sendable {
    /// A picture's trajectory: ids alone begin anew with each evaluation.
    private struct Trajectory: Hashable { let id, seed: UInt64 }

    /// Calls that fail slowly, beyond the first, before what still fails is given up.
    private static let slowCalls = 4

    private let timeout: Double
    private let slow = Mutex<Set<Trajectory>>([])

    /// - Parameter timeout: seconds that a call may take.
    init(timeout: Double) { self.timeout = timeout }

    /// Scores what can be scored of a batch. Throws `RewardError` only if nobody wants it any more.
    func score(_ batch: RewardBatch, by reward: any Reward) throws -> RewardScores {
        var found = RewardScores(count: batch.count, objectives: reward.objectives.count)
        let trajectories = (0..<batch.count).map { Trajectory(id: batch.sampleIDs[$0], seed: batch.seeds[$0]) }
        let known = slow.withLock { $0 }
        for (place, trajectory) in trajectories.enumerated() where known.contains(trajectory) {
            found.fail(place, "reward \(reward.name) is not asked for sample \(trajectory.id) again: another picture of it took too long")
        }
        let whole = trajectories.indices.filter { !known.contains(trajectories[$0]) }
        var parts = whole.isEmpty ? [] : [whole]
        var calls = 4 * Int(log2(Double(batch.count)).rounded(.up)) + 8
        var slowCalls = 0
        while !parts.isEmpty {
            let places = parts.removeFirst()
            var part = places.count == batch.count ? batch : try batch.part(places)
            // Chance is forgiven once: what fails in parts has had that.
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
