/// The states of a trajectory that have a flow F: every K-th from the noise on, and the end.
///
/// They divide a trajectory into stretches of K transitions. If K does not divide the number of transitions,
/// the stretch before the data is the shorter one: scores of predictions tell most there.
struct FlowStates: Equatable {
    /// Transitions T of a trajectory, whose states are 0 (noise) to T (data).
    let transitions: Int
    /// Transitions K of a stretch.
    let spacing: Int
    /// The states with a flow that is predicted, ascending: all but the end, whose flow is the final score.
    let predicted: [Int]

    /// - Parameter spacing: K; nil: only the end has a flow.
    init(transitions: Int, spacing: Int?) {
        self.transitions = transitions
        self.spacing = spacing ?? transitions
        predicted = spacing.map { Array(stride(from: 0, to: transitions, by: $0)) } ?? []
    }

    /// Whether each transition is a stretch of its own.
    var areAll: Bool { spacing == 1 }
    /// Number of stretches of a trajectory.
    var stretches: Int { (transitions + spacing - 1) / spacing }

    /// Returns the stretch of a transition, from 0.
    func stretch(of step: Int) -> Int { step / spacing }

    /// Returns the scores of all trajectories at a state: of final images or predicted data, [N]; nil for a
    /// state without a flow.
    func scores(_ scores: RolloutScores, at state: Int) -> [Float]? {
        state == transitions ? scores.final : predicted.firstIndex(of: state).map { scores.lookahead[$0] }
    }
}
