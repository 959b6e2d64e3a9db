import Images
import Rewards
import Tensors

extension Rollout {
    /// Puts the numbers and images of all ranks' trajectories together, and this rank's states, both in the
    /// order of the epoch.
    /// - Parameter objectives: the names of the scores' objectives, in order.
    /// - Throws: `ImageError`, or an error of `Team.exchange`.
    func completed(by team: Team, objectives: [String]) throws -> Rollout {
        var numbers = self
        numbers.takeStates(of: Rollout(prompts: [], held: []), held: []) { $0 }
        let (parts, order) = try team.exchange("scores", numbers, of: held)
        let all = try Rollout(concatenating: parts)
        var completed = holding(held.sorted())
        completed.prompts = order.map { all.prompts[$0] }
        completed.scores = all.scores.picking(order).ordered(objectives)
        completed.images = try all.images?.picking(order)
        return completed
    }

    /// Returns the rollout with the states of some of its trajectories alone.
    func holding(_ trajectories: [Int]) -> Rollout {
        guard trajectories != held else { return self }
        let rows = rows(of: trajectories)
        var part = self
        part.takeStates(of: self, held: trajectories) { $0.rows(rows) }
        return part
    }

    /// Returns the rollout with the states of all trajectories on rank 0; nil on other ranks.
    /// - Throws: an error of `Team.gather`.
    func gathered(by team: Team) throws -> Rollout? {
        guard held.count < count else { return self }
        var states = self
        (states.prompts, states.scores, states.images) = ([], RolloutScores(final: [], lookahead: []), nil)
        let parts = try team.gather("rollout", states)
        guard team.isLeader else { return nil }
        let all = try Rollout(concatenating: parts)
        let rows = all.held.indices.sorted { all.held[$0] < all.held[$1] }
        var whole = self
        whole.takeStates(of: all, held: rows.map { all.held[$0] }) { $0.rows(rows) }
        return whole
    }
}

extension Team {
    /// Gives every rank what each has of some trajectories.
    /// - Parameter trajectories: those that this rank has, by their places in the epoch.
    /// - Returns: the parts in the order of ranks, and for each trajectory, ascending, its place in the parts
    ///   joined.
    /// - Throws: an error of `exchange`.
    func exchange<Part: Codable>(_ purpose: String, _ part: Part, of trajectories: [Int]) throws -> (parts: [Part], order: [Int]) {
        let joined = try exchange(purpose, trajectories).flatMap { $0 }
        return (try exchange(purpose, part), joined.indices.sorted { joined[$0] < joined[$1] })
    }
}

extension RolloutScores {
    /// Returns the scores of trajectories at some places.
    fileprivate func picking(_ places: [Int]) -> RolloutScores {
        func pick(_ list: [Float]) -> [Float] { places.map { list[$0] } }
        return RolloutScores(
            final: pick(final), lookahead: lookahead.map(pick), objectives: objectives.map { ObjectiveScores($0.name, pick($0.scores)) },
            imputed: imputed, firstFailure: firstFailure)
    }

    /// Returns the scores with the objectives in the order of `names`: encoded ones are in alphabetical
    /// order.
    func ordered(_ names: [String]) -> RolloutScores {
        var scores = self
        scores.objectives = names.compactMap { name in objectives[name].map { ObjectiveScores(name, $0) } }
        return scores
    }
}
