import Foundation
import Models
import Tensors
import Testing

/// Tests/Goldens: outputs of diffusers and transformers (make_goldens.py).
let goldens = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("Goldens")

/// The stored inputs and outputs of a case.
func golden(_ name: String) throws -> [String: Tensor] {
    try Safetensors(contentsOf: goldens.appendingPathComponent(name).appendingPathComponent("golden.safetensors")).tensors
}

/// Largest difference, relative to the largest expected value.
func difference(_ actual: Tensor, _ expected: Tensor) throws -> Double {
    try #require(actual.shape == expected.shape)
    let (a, b) = (try actual.detach().array(Float.self), try expected.array(Float.self))
    let scale = b.map { abs($0) }.max() ?? 0
    return Double(zip(a, b).map { abs($0 - $1) }.reduce(0) { $1.isNaN ? .infinity : max($0, $1) } / max(scale, 1e-12))
}
