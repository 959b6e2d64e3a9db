/// Sizes of a vision transformer (Dosovitskiy et al. 2021), be it CLIP's or BLIP's.
public struct VisionSizes: Equatable, Sendable, CustomStringConvertible {
    /// Width of a token, and of the middle of an MLP.
    let width, inner: Int
    /// How many layers, and heads of attention in each.
    let layers, heads: Int
    /// Height and width of the pictures, and of a patch.
    public let imageSize, patchSize: Int

    /// ViT-L/14: openai/clip-vit-large-patch14.
    public static let vitL14 = VisionSizes(width: 1024, inner: 4096, layers: 24, heads: 16, imageSize: 224, patchSize: 14)
    /// ViT-L/16: ImageReward.
    static let vitL16 = VisionSizes(width: 1024, inner: 4096, layers: 24, heads: 16, imageSize: 224, patchSize: 16)
    /// ViT-H/14: HPSv2.
    static let vitH14 = VisionSizes(width: 1280, inner: 5120, layers: 32, heads: 16, imageSize: 224, patchSize: 14)

    /// For people: `ViT of 24 layers, 1024 wide, patches of 14 in 224`.
    public var description: String { "ViT of \(layers) layers, \(width) wide, patches of \(patchSize) in \(imageSize)" }

    /// Patches of a picture and the class token.
    var tokens: Int { imageSize / patchSize * (imageSize / patchSize) + 1 }

    /// Throws, in the name of `file`, where the sizes cannot be.
    func check(_ file: String) throws {
        guard [width, inner, layers, heads, imageSize, patchSize].allSatisfy({ $0 > 0 }), width % heads == 0, layers <= 1000 else {
            throw ModelError(
                "\(file): sizes must be above zero, hidden_size a multiple of num_attention_heads, num_hidden_layers at most 1000")
        }
        guard imageSize <= 4096, 1...256 ~= imageSize / patchSize else {
            throw ModelError("\(file): image_size \(imageSize) with patch_size \(patchSize): at most 4096, and 1 to 256 patches in a row")
        }
    }
}
