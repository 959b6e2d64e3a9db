import Tensors

/// The initial value of a parameter that does not come from a checkpoint.
package enum Initializer: Sendable {
    case zeros, ones
    /// Normal with this standard deviation.
    case normal(Double)
    /// PyTorch's default for Linear and Conv2d: uniform within 1 / sqrt(fan in).
    case fanIn(Int)
}

/// The source of a model's parameters: a checkpoint, or initialisers.
///
/// A model asks it for each parameter while it is built. Parameters that do not fit are collected, so that
/// `finish` reports them all at once.
package final class ParameterStore {
    /// The parameters that the model asked for, by key.
    package private(set) var parameters: [String: Tensor] = [:]
    /// The linear layers and convolutions that were built, by key: LoRA attaches to these.
    package internal(set) var layers: [String: any AdaptableLayer] = [:]

    let dtype: DType
    /// The device of the parameters.
    package let device: Device
    private let checkpoint: [String: Tensor]?
    private let unsupported: [String: String]
    private let origin: String
    private let generator: Generator
    private var problems: [String] = []

    /// Takes parameters from a checkpoint, converted to `dtype` on `device`.
    /// - Parameters:
    ///   - origin: the file or folder, for messages.
    ///   - unsupported: types of tensors that cannot be read, by key. They count only if the model asks for one.
    package init(
        checkpoint: [String: Tensor], origin: String, dtype: DType, device: Device, unsupported: [String: String] = [:]
    ) {
        self.checkpoint = checkpoint
        self.unsupported = unsupported
        self.origin = origin
        self.dtype = dtype
        self.device = device
        generator = Generator(seed: 0)
    }

    /// Draws fresh float32 parameters from `seed`.
    package init(seed: UInt64, device: Device) {
        checkpoint = nil
        unsupported = [:]
        origin = "initialiser"
        dtype = .float32
        self.device = device
        generator = Generator(seed: seed)
    }

    /// The scope of keys without a prefix.
    package var root: Scope { Scope(store: self, path: "") }

    fileprivate func parameter(_ key: String, _ shape: [Int], _ initializer: Initializer, _ dtype: DType) -> Tensor {
        guard let checkpoint else {
            let drawn = initializer.tensor(shape, generator: generator).to(device)
            parameters[key] = drawn
            return drawn
        }
        guard let stored = stored(checkpoint[key], key, shape) else {
            // One number for all, until `finish` reports it: only a configuration asks for that much memory.
            let zero = Tensor.zeros([])
            parameters[key] = zero
            return zero.expand(shape)
        }
        // A view of the mapped file would change if the file were replaced: own the memory.
        let rows = stored.to(dtype).to(device).contiguous().clone()
        // Tensor cores read convolutions' weights channels-last; activations follow the weights.
        let owned = device == .cuda && dtype != .float32 && shape.count == 4 ? rows.channelsLast() : rows
        parameters[key] = owned
        return owned
    }

    /// The checkpoint's tensor in the shape that is asked for; nil, and an entry in `problems`, if it does not
    /// fit.
    private func stored(_ found: Tensor?, _ key: String, _ shape: [Int]) -> Tensor? {
        guard let found else {
            problems.append(unsupported[key].map { "\(key) has the type \($0), which is not supported" } ?? "\(key) \(shape) is missing")
            return nil
        }
        if found.shape == shape { return found }
        // Deprecated attention blocks keep projections as 1x1 convolutions; the numbers are the same.
        if found.shape.filter({ $0 != 1 }) == shape.filter({ $0 != 1 }) { return found.reshape(shape) }
        problems.append("\(key) has shape \(found.shape), the configuration asks for \(shape)")
        return nil
    }

    /// Ends the building of a model: compares what it asked for with what the checkpoint holds.
    /// - Parameters:
    ///   - allowingOthers: whether unused keys are accepted.
    ///   - ignoring: keys that are accepted unused and not
    ///     returned, because the model is known not to need them.
    /// - Returns: the other unused keys.
    /// - Throws: `TensorFileError` that lists missing, misshapen and unused keys in one line.
    @discardableResult
    package func finish(allowingOthers: Bool = false, ignoring: (String) -> Bool = { _ in false }) throws -> [String] {
        try TensorError.check()
        if checkpoint != nil {
            for (key, tensor) in parameters.sorted(by: { $0.key < $1.key }) where try !tensor.isFinite() {
                problems.append("\(key) holds numbers that are not finite in \(dtype)")
            }
        }
        let unused = (checkpoint ?? [:]).keys.filter { parameters[$0] == nil && !ignoring($0) }.sorted()
        let all = problems + (allowingOthers ? [] : unused.map { "\($0) is not used by this configuration" })
        guard !all.isEmpty else { return unused }
        let shown = all.prefix(8).joined(separator: "; ") + (all.count > 8 ? "; and \(all.count - 8) more" : "")
        throw TensorFileError("\(origin): the weights do not fit the configuration: \(shown)")
    }
}

/// A place in a model's tree of parameters; `scope / "to_out" / 0` extends the key as Hugging Face does.
package struct Scope {
    let store: ParameterStore
    let path: String

    /// Returns the scope of a named child.
    package static func / (scope: Scope, name: String) -> Scope {
        Scope(store: scope.store, path: scope.path.isEmpty ? name : scope.path + "." + name)
    }

    /// Returns the scope of a numbered child.
    package static func / (scope: Scope, index: Int) -> Scope { scope / String(index) }

    /// Returns the parameter `name` of this scope, of exactly this shape.
    /// - Parameter dtype: its type, if it is not to be the model's.
    package func parameter(_ name: String, _ shape: [Int], _ initializer: Initializer, dtype: DType? = nil) -> Tensor {
        store.parameter((self / name).path, shape, initializer, dtype ?? store.dtype)
    }
}

extension Initializer {
    /// Returns a float32 tensor on the CPU.
    func tensor(_ shape: [Int], generator: Generator) -> Tensor {
        switch self {
        case .zeros: Tensor.zeros(shape)
        case .ones: Tensor.full(shape, 1)
        case .normal(let deviation): Tensor.randn(shape, generator: generator) * deviation
        case .fanIn(let fan): (Tensor.rand(shape, generator: generator) * 2 - 1) * (1 / Double(fan).squareRoot())
        }
    }
}
