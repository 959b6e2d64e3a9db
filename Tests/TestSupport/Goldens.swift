import Foundation
import Tensors
import Testing

/// A JSON golden.
package func json(_ name: String) throws -> Any {
    try JSONSerialization.jsonObject(with: Data(contentsOf: goldens.appendingPathComponent(name)))
}

/// The tensors of a golden.
package func tensors(_ name: String) throws -> [String: Tensor] {
    try Safetensors(contentsOf: goldens.appendingPathComponent(name)).tensors
}

/// Largest difference, relative to the largest expected value.
package func difference(_ actual: [Double], _ expected: [Double]) -> Double {
    guard actual.count == expected.count else { return .infinity }
    let scale = expected.map { abs($0) }.max() ?? 0
    return zip(actual, expected).map { abs($0 - $1) }.reduce(0) { $1.isNaN ? .infinity : max($0, $1) } / max(scale, 1e-12)
}

/// Largest difference, relative to the largest expected value; fails the test if the shapes differ.
package func difference(_ actual: Tensor, _ expected: Tensor) throws -> Double {
    try #require(actual.shape == expected.shape)
    return difference(try actual.detach().array(), try expected.array())
}
