/// Bounds of the sizes in configurations: beyond any model's, and low enough that no product of them overflows.
enum SizeLimits {
    /// Channels, widths, numbers of tokens, and the height and width of a sample.
    static let widths = 1...1 << 20
    /// Layers of a block.
    static let layers = 1...32
    /// Blocks of a network.
    static let blocks = 1...16
    /// The bounds for messages.
    static let words =
        "widths must be from 1 to \(widths.upperBound), blocks at most \(blocks.upperBound), of 1 to \(layers.upperBound) layers"
}
