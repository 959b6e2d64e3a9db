import CTorch

/// Gradient checkpointing (Chen et al. 2016), as torch.utils.checkpoint has it: memory for time.
package enum GradientCheckpointing {
    /// Whether `checkpointed` keeps inputs alone, for the code that this is bound around.
    @TaskLocal package static var isEnabled = false

    /// A block behind the C shim's context.
    fileprivate final class Block {
        let body: ([Tensor]) -> Tensor
        init(_ body: @escaping ([Tensor]) -> Tensor) { self.body = body }
    }
}

/// Computes a block of a network. With `GradientCheckpointing.isEnabled`, of all that gradients need only the
/// inputs are kept, and the backward pass computes the block again; the gradients are the same.
/// - Parameters:
///   - inputs: the tensors that `body` depends on, beside parameters; gradients flow to these.
///   - body: a function of its arguments and of parameters that do not change before the backward pass. It
///     may be called on another thread.
package func checkpointed(_ inputs: [Tensor], body: @escaping ([Tensor]) -> Tensor) -> Tensor {
    guard GradientCheckpointing.isEnabled else { return body(inputs) }
    let context = Unmanaged.passRetained(GradientCheckpointing.Block(body)).toOpaque()
    return Tensor.withHandles(inputs) { handles in
        Tensor(
            owning: ct_checkpointed(
                handles, handles.count,
                { context, inputs, count in
                    let block = Unmanaged<GradientCheckpointing.Block>.fromOpaque(context).takeUnretainedValue()
                    return block.body((0..<count).map { Tensor(owning: inputs[$0]) }).withHandle(ct_retain)
                }, { Unmanaged<GradientCheckpointing.Block>.fromOpaque($0).release() }, context))
    }
}
