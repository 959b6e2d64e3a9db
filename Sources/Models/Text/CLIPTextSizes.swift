/// The sizes of CLIP's text transformer.
package struct CLIPTextSizes: Equatable, Sendable {
    /// The number of tokens of a text, padding included.
    package let contextLength: Int
    /// The number of token ids.
    package let vocabularySize: Int
    /// The number of layers, their width, the width of an
    /// MLP's inner layer, and the number of attention heads.
    let layers, width, inner, heads: Int

    /// Checks that a network of these sizes can be built.
    /// - Throws: `ModelError` that names `file`.
    func validate(_ file: String) throws {
        guard [vocabularySize, width, inner, contextLength].allSatisfy(SizeLimits.widths.contains), heads > 0, width % heads == 0,
            1...1000 ~= layers
        else {
            throw ModelError(
                "\(file): sizes must be from 1 to \(SizeLimits.widths.upperBound), at most 1000 layers, "
                    + "and hidden_size a multiple of num_attention_heads")
        }
    }
}
