import Tensors

/// DAG-DB (paper, section 4.1): loss = delta_t^2, with gradients to theta through log P_F and to phi through both flows.
struct DetailedBalance: Objective {
    let usesFlow = true

    func loss(_ transitions: Transitions) -> Tensor {
        transitions.residual(logForward: transitions.logForward)!.square()
    }
}
