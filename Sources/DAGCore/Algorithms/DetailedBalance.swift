import Tensors

/// DAG-DB (paper, section 4.1): loss = delta_t^2, with gradients to theta through log P_F
/// and to phi through both flows. Every state has a flow: else see `TrajectoryBalance`.
final class DetailedBalance: TransitionAlgorithm {
    private let flow: any FlowNetwork
    var trainedFlow: (any FlowNetwork)? { flow }

    init(flow: any FlowNetwork) { self.flow = flow }

    func loss(_ transitions: Transitions) throws -> Loss {
        let loss = transitions.residual(flow, logForward: transitions.logForward).square()
        return Loss(values: loss, metrics: ["squared_residual": try loss.detach().array()])
    }
}
