/// The sizes of a vision transformer (Dosovitskiy et al. 2021), CLIP's or BLIP's.
package struct VisionSizes: Equatable, Sendable, CustomStringConvertible {
    /// The widths of a token and of an MLP's inner layer.
    let width, inner: Int
    /// The numbers of layers, and of attention heads in each.
    let layers, heads: Int
    /// The height and width of an image and of a patch, in pixels.
    package let imageSize, patchSize: Int

    /// ViT-L/14, as in openai/clip-vit-large-patch14.
    package static let vitL14 = VisionSizes(width: 1024, inner: 4096, layers: 24, heads: 16, imageSize: 224, patchSize: 14)
    /// ViT-L/16, as in ImageReward.
    static let vitL16 = VisionSizes(width: 1024, inner: 4096, layers: 24, heads: 16, imageSize: 224, patchSize: 16)
    /// ViT-H/14, as in HPSv2.
    static let vitH14 = VisionSizes(width: 1280, inner: 5120, layers: 32, heads: 16, imageSize: 224, patchSize: 14)

    /// A summary for the log, such as `ViT of 24 layers, 1024 wide, patches of 14 in 224`.
    package var description: String { "ViT of \(layers) layers, \(width) wide, patches of \(patchSize) in \(imageSize)" }

    /// The number of tokens of an image: its patches and the class token.
    var tokens: Int { imageSize / patchSize * (imageSize / patchSize) + 1 }

    /// Checks that a network of these sizes can be built.
    /// - Throws: `ModelError` that names `file`.
    func validate(_ file: String) throws {
        guard [width, inner, layers, heads, imageSize, patchSize].allSatisfy({ $0 > 0 }), width % heads == 0, layers <= 1000 else {
            throw ModelError(
                "\(file): sizes must be above zero, hidden_size a multiple of num_attention_heads, num_hidden_layers at most 1000")
        }
        guard imageSize <= 4096, 1...256 ~= imageSize / patchSize else {
            throw ModelError(
                "\(file): image_size \(imageSize) with patch_size \(patchSize): at most 4096, and 1 to 256 patches in a row")
        }
    }
}
