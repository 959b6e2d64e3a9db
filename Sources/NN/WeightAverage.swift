import Tensors

/// The exponential moving average of trained parameters, as diffusers' `EMAModel` keeps it.
package final class WeightAverage {
    private let parameters: [(name: String, tensor: Tensor)]
    private let averages: [Tensor]
    private let decay: Double

    /// - Parameters:
    ///   - parameters: float32, by name.
    ///   - decay: the share that the average keeps at a step, below 1.
    package init(_ parameters: [(name: String, tensor: Tensor)], decay: Double) {
        self.parameters = parameters
        self.decay = decay
        averages = parameters.map { $0.tensor.detach().clone() }
    }

    /// Adds the parameters to the average. At the first steps it keeps less: (1 + step) / (10 + step).
    /// - Parameter step: optimiser steps before the newest one.
    package func add(step: Int) {
        let kept = step == 0 ? 0 : min(decay, Double(1 + step) / Double(10 + step))
        withoutGradients {
            for (average, parameter) in zip(averages, parameters) { average.copy_(average * kept + parameter.tensor * (1 - kept)) }
        }
    }

    /// Runs `body` with the average in the place of the parameters.
    package func inPlace<Result>(_ body: () throws -> Result) rethrows -> Result {
        let trained = parameters.map { $0.tensor.detach().clone() }
        func put(_ tensors: [Tensor]) {
            withoutGradients { for (parameter, tensor) in zip(parameters, tensors) { parameter.tensor.copy_(tensor) } }
        }
        put(averages)
        defer { put(trained) }
        return try body()
    }

    /// Runs `body`, which changes the parameters, on the average in their place.
    package func change(_ body: () throws -> Void) rethrows {
        try inPlace {
            try body()
            for (average, parameter) in zip(averages, parameters) { average.copy_(parameter.tensor.detach()) }
        }
    }

    /// The average by name, for a checkpoint.
    package var state: [String: Tensor] {
        Dictionary(uniqueKeysWithValues: zip(parameters, averages).map { ("ema.\($0.name)", $1) })
    }

    /// Restores what `state` returned.
    /// - Throws: `TensorFileError` if a tensor is missing or has another shape.
    package func restore(_ saved: [String: Tensor]) throws { try restoreTensors(state, from: saved) }
}
