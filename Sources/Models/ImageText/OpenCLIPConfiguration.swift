import NN

/// Sizes of a CLIP as open_clip's model_configs/*.json state them.
public struct OpenCLIPConfiguration: Equatable, Sendable, CustomStringConvertible {
    /// `text_cfg`: the text transformer.
    public struct Text: Equatable, Sendable {
        /// Tokens of a text, padding included, and ids that there are.
        public let contextLength, vocabularySize: Int
        /// Transformer layers, their width, that of the middle of an MLP, and heads of attention.
        let layers, width, inner, heads: Int
    }

    /// `embed_dim`: length of an image's or a text's embedding.
    let embedding: Int
    /// `vision_cfg`: the vision transformer.
    public let vision: VisionSizes
    /// The text transformer.
    public let text: Text

    /// ViT-H-14: laion/CLIP-ViT-H-14-laion2B-s32B-b79K, HPSv2 and HPSv2.1.
    public static let vitH14 = OpenCLIPConfiguration(
        embedding: 1024, vision: .vitH14,
        text: Text(contextLength: 77, vocabularySize: 49408, layers: 24, width: 1024, inner: 4096, heads: 16))

    /// For people.
    public var description: String { "CLIP with a \(vision) and a text tower of \(text.layers) layers, \(text.width) wide" }
}

extension OpenCLIPConfiguration {
    /// Reads the sizes off the weights, but for the heads of attention, which are not in a file.
    ///
    /// In all of open_clip's configurations a head is 64 wide, unless the vision tower would have more than 16 of them.
    init(_ shapes: CheckpointShapes) throws {
        func heads(_ width: Int) -> Int { max(1, width / 64) }
        vision = try shapes.vision(
            patches: "visual.conv1.weight", positions: "visual.positional_embedding", rank: 2, layers: "visual.transformer.resblocks.",
            mlp: "mlp.c_fc.weight", heads: { min(16, heads($0)) })
        let (words, layers) = (try shapes.shape("token_embedding.weight", rank: 2), "transformer.resblocks.")
        text = Text(
            contextLength: try shapes.shape("positional_embedding", rank: 2)[0], vocabularySize: words[0],
            layers: try shapes.layers(layers), width: words[1], inner: try shapes.shape(layers + "0.mlp.c_fc.weight", rank: 2)[0],
            heads: heads(words[1]))
        embedding = try shapes.shape("text_projection", rank: 2)[1]
        try shapes.check(text.width, heads: text.heads)
    }
}
