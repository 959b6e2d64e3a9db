import NN

/// Sizes of a CLIP as open_clip's model_configs/*.json state them.
public struct OpenCLIPConfiguration: Sendable {
    /// `vision_cfg`: the vision transformer.
    public struct Vision: Sendable {
        /// Height and width of the pictures, and of a patch.
        public let imageSize, patchSize: Int
        /// Transformer layers, their width, and the width of one head of attention.
        public let layers, width, headWidth: Int
    }

    /// `text_cfg`: the text transformer.
    public struct Text: Sendable {
        /// Tokens of a text, padding included, and ids that there are.
        public let contextLength, vocabularySize: Int
        /// Transformer layers, their width and heads of attention.
        public let layers, width, heads: Int
    }

    /// `embed_dim`: length of an image's or a text's embedding.
    public let embedding: Int
    /// The vision tower.
    public let vision: Vision
    /// The text tower.
    public let text: Text
    /// GELU, or with `quick_gelu` its approximation.
    public let activation: Activation

    /// ViT-H-14: laion/CLIP-ViT-H-14-laion2B-s32B-b79K, HPSv2 and HPSv2.1.
    public static let vitH14 = OpenCLIPConfiguration(
        embedding: 1024, vision: Vision(imageSize: 224, patchSize: 14, layers: 32, width: 1280, headWidth: 80),
        text: Text(contextLength: 77, vocabularySize: 49408, layers: 24, width: 1024, heads: 16), activation: .gelu)
}
