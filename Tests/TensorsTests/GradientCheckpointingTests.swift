import Foundation
import Testing

@testable import Tensors

@Suite struct GradientCheckpointingTests {
    /// Counts the calls of a block, and tells when what it captured is gone.
    private final class Probe {
        var calls = 0
        let onEnd: () -> Void
        init(onEnd: @escaping () -> Void) { self.onEnd = onEnd }
        deinit { onEnd() }
    }

    /// Returns leaves that require gradients.
    private func leaves() -> (x: Tensor, weight: Tensor) {
        let generator = Generator(seed: 1)
        let (x, weight) = (Tensor.randn([4, 3], generator: generator), Tensor.randn([3, 3], generator: generator))
        (x.requiresGrad, weight.requiresGrad) = (true, true)
        return (x, weight)
    }

    private func enabled<Result>(_ on: Bool = true, _ body: () throws -> Result) rethrows -> Result {
        try GradientCheckpointing.$isEnabled.withValue(on, operation: body)
    }

    /// Gradients of inputs and of parameters, of a block in a block, are those of the plain graph.
    @Test func gradientsAreTheSame() throws {
        let gradients = try [false, true].map { on in
            let (x, weight) = leaves()
            let output = enabled(on) {
                checkpointed([x.exp(), x]) { outer in
                    checkpointed([outer[0]]) { ($0[0].linear(weight, nil)).silu() } * outer[1]
                }
            }
            try output.square().sum().backward()
            return try [#require(x.grad), #require(weight.grad)].flatMap { try $0.array(Float.self) }
        }
        #expect(gradients[0] == gradients[1])
        #expect(gradients[0].contains { $0 != 0 })
    }

    /// The block runs again in the backward pass only, and is let go once, also if there is none.
    @Test(arguments: [true, false]) func blocksAreComputedTwice(backward: Bool) throws {
        let (x, weight) = leaves()
        var ends = 0
        func output() -> (Tensor, () -> Int) {
            let probe = Probe { ends += 1 }
            let output = enabled {
                checkpointed([x]) {
                    probe.calls += 1
                    return $0[0].linear(weight, nil)
                }
            }
            return (output, { [weak probe] in probe?.calls ?? -1 })
        }
        try {
            let (result, calls) = output()
            #expect(calls() == 1 && ends == 0)
            guard backward else { return }
            try result.sum().backward()
            #expect(calls() == 2 && ends == 0)
        }()
        #expect(ends == 1)
    }

    /// What a block makes is forgotten before the backward pass.
    @Test(arguments: [true, false]) func intermediateResultsAreForgotten(on: Bool) throws {
        let (x, _) = leaves()
        var isKept = false
        let output = enabled(on) {
            checkpointed([x]) { inputs in
                // The data lives as long as a tensor that maps it.
                let data = NSMutableData(length: 48)!
                isKept = true
                let mapped = Data(
                    bytesNoCopy: data.mutableBytes, count: 48,
                    deallocator: .custom { _, _ in withExtendedLifetime(data) { isKept = false } })
                return inputs[0] * Tensor(mapping: mapped, offset: 0, shape: [4, 3], dtype: .float32)
            }
        }
        #expect(isKept != on)
        withExtendedLifetime(output) {}
    }

    /// A block whose inputs need no gradient is recorded for its parameters' sake, and only then.
    @Test func parametersAloneAreEnough() throws {
        let (_, weight) = leaves()
        let x = Tensor.full([4, 3], 1)
        let (trained, frozen, quiet) = enabled {
            (
                checkpointed([x]) { $0[0].linear(weight, nil) }, checkpointed([x]) { $0[0].exp() },
                withoutGradients { checkpointed([x]) { $0[0].linear(weight, nil) } }
            )
        }
        #expect(trained.requiresGrad && !frozen.requiresGrad && !quiet.requiresGrad)
        try trained.sum().backward()
        #expect(try weight.grad?.array(Float.self) == Array(repeating: 4, count: 9))
    }

    /// An error of either computation is the thread's error, as that of any operation.
    @Test(arguments: [1, 2]) func errorsAreReported(failing: Int) throws {
        let (x, _) = leaves()
        var calls = 0
        let output = enabled {
            checkpointed([x]) {
                calls += 1
                return $0[0] * (calls == failing ? Tensor.zeros([7]) : Tensor.full([], 2))
            }
        }
        let error = #expect(throws: TensorError.self) { try output.sum().backward() }
        #expect(error?.description.contains("size of tensor a (3)") == true, "\(error?.description ?? "")")
        #expect(calls == failing)
        // What comes after works, also in the backward pass.
        let after = enabled { checkpointed([x]) { $0[0] * 3 } }
        x.clearGrad()
        try after.sum().backward()
        #expect(try x.grad?.array(Float.self) == Array(repeating: 3, count: 12))
    }

    /// So is an error on a thread of libtorch's, on which backward passes on a GPU run. On the CPU deep nesting
    /// leads to one.
    @Test func errorsOfOtherThreadsAreReported() throws {
        let (x, _) = leaves()
        let caller = pthread_self()
        func nested(_ depth: Int, _ x: Tensor) -> Tensor {
            checkpointed([x]) { inputs in
                guard depth == 0 else { return nested(depth - 1, inputs[0]) }
                return inputs[0] * (pthread_equal(caller, pthread_self()) != 0 ? Tensor.full([], 2) : Tensor.zeros([7]))
            }
        }
        let error = #expect(throws: TensorError.self) { try enabled { try nested(70, x).sum().backward() } }
        #expect(error?.description.contains("size of tensor a (3)") == true, "\(error?.description ?? "")")
    }
}
