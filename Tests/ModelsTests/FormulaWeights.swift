import Foundation
import Tensors

/// Weights with the numbers of the goldens' `by_formula`, so that none have to be stored.
func weightsByFormula(_ shapes: [String: [Int]]) -> [String: Tensor] {
    var tensors: [String: Tensor] = [:]
    for (index, name) in shapes.keys.sorted().enumerated() {
        let shape = shapes[name]!
        let count = shape.reduce(1, *)
        let isNorm = ["norm1.weight", "norm2.weight", "norm.weight", "LayerNorm.weight"].contains(where: name.hasSuffix)
        let fanIn = Double(shape.dropFirst().reduce(1, *))
        let values = (0..<count).map { place -> Float in
            let noise = sin(12.9898 * Double(place) + 78.233 * Double(index)) * 43758.5453
            let value = noise - noise.rounded(.down) - 0.5
            if isNorm { return Float(1 + 0.2 * value) }
            if name.contains("embed"), !name.contains("proj") { return Float(2 * value) }
            return Float(shape.count > 1 ? value * (12 / fanIn).squareRoot() : value)
        }
        tensors[name] = Tensor(values, shape: shape)
    }
    return tensors
}
