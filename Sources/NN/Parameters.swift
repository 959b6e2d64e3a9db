import Foundation
import Tensors

/// How a parameter starts when no checkpoint gives it.
public enum Initializer: Sendable {
    case zeros, ones
    /// Normal with this standard deviation.
    case normal(Double)
    /// PyTorch's default for Linear and Conv2d: uniform within 1 / sqrt(fan in).
    case fanIn(Int)
}

/// Where a model's parameters come from: a checkpoint or an initialiser. Collects what does not fit, to report it all at once.
public final class ParameterStore {
    /// Everything that a model asked for, by key.
    public private(set) var parameters: [String: Tensor] = [:]
    /// Every linear layer that was built, by key: what LoRA attaches to.
    public internal(set) var linears: [String: Linear] = [:]

    let dtype: DType
    let device: Device
    private let checkpoint: [String: Tensor]?
    private let origin: String
    private let generator: Generator
    private var problems: [String] = []

    /// Parameters of a checkpoint, converted to `dtype` on `device`.
    /// - Parameter origin: the file or folder, for messages.
    public init(checkpoint: [String: Tensor], origin: String, dtype: DType, device: Device) {
        self.checkpoint = checkpoint
        self.origin = origin
        self.dtype = dtype
        self.device = device
        generator = Generator(seed: 0)
    }

    /// Fresh float32 parameters drawn from `seed`.
    public init(seed: UInt64, device: Device) {
        checkpoint = nil
        origin = "initialiser"
        dtype = .float32
        self.device = device
        generator = Generator(seed: seed)
    }

    /// The top scope.
    public var root: Scope { Scope(store: self, path: "") }

    fileprivate func parameter(_ key: String, _ shape: [Int], _ initializer: Initializer) -> Tensor {
        let tensor: Tensor
        if let checkpoint {
            if let found = checkpoint[key] {
                // Deprecated attention blocks keep projections as 1x1 convolutions; the numbers are the same.
                let squeezed = found.shape.filter { $0 != 1 } == shape.filter { $0 != 1 } && found.count == shape.reduce(1, *)
                if found.shape != shape && !squeezed {
                    problems.append("\(key) has shape \(found.shape), the configuration asks for \(shape)")
                }
                tensor = (found.shape == shape ? found : squeezed ? found.reshape(shape) : Tensor.zeros(shape)).to(dtype).to(device)
                    .contiguous()
            } else {
                problems.append("\(key) \(shape) is missing")
                tensor = Tensor.zeros(shape, dtype: dtype, device: device)
            }
        } else {
            tensor = initializer.tensor(shape, generator: generator).to(device)
        }
        // A view of the mapped file must not outlive a file that is replaced: own the memory.
        let owned = tensor.clone()
        parameters[key] = owned
        return owned
    }

    /// Throws one error with every missing, mis-shaped and unused key of the checkpoint.
    /// - Parameters:
    ///   - allowingOthers: whether unused keys are no error.
    ///   - ignoring: keys that some versions of the format carry and no model uses.
    /// - Returns: the unused keys, but for those.
    @discardableResult public func finish(allowingOthers: Bool = false, ignoring: (String) -> Bool = { _ in false }) throws -> [String] {
        try TensorError.check()
        let unused = (checkpoint ?? [:]).keys.filter { parameters[$0] == nil && !ignoring($0) }.sorted()
        let all = problems + (allowingOthers ? [] : unused.map { "\($0) is not used by this configuration" })
        guard !all.isEmpty else { return unused }
        let shown = all.prefix(8).joined(separator: "; ") + (all.count > 8 ? "; and \(all.count - 8) more" : "")
        throw TensorFileError("\(origin): the weights do not fit the configuration: \(shown)")
    }
}

/// A place in a model's tree of parameters; `scope / "to_out" / 0` extends the Hugging Face key path.
public struct Scope {
    let store: ParameterStore
    let path: String

    /// The scope of a named child.
    public static func / (scope: Scope, name: String) -> Scope {
        Scope(store: scope.store, path: scope.path.isEmpty ? name : scope.path + "." + name)
    }

    /// The scope of a numbered child.
    public static func / (scope: Scope, index: Int) -> Scope { scope / String(index) }

    /// The parameter `name` of this scope, of exactly this shape.
    public func parameter(_ name: String, _ shape: [Int], _ initializer: Initializer) -> Tensor {
        store.parameter((self / name).path, shape, initializer)
    }
}

extension Initializer {
    /// A float32 tensor on the CPU.
    func tensor(_ shape: [Int], generator: Generator) -> Tensor {
        switch self {
        case .zeros: Tensor.zeros(shape)
        case .ones: Tensor.full(shape, 1)
        case .normal(let deviation): Tensor.randn(shape, generator: generator) * deviation
        case .fanIn(let fan): (Tensor.rand(shape, generator: generator) * 2 - 1) * (1 / Double(fan).squareRoot())
        }
    }
}
