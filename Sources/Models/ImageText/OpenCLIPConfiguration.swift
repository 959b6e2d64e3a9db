import NN

/// The sizes of a CLIP, with the structure of open_clip's model_configs/*.json.
package struct OpenCLIPConfiguration: Equatable, Sendable, CustomStringConvertible {
    /// The text transformer, `text_cfg`.
    package struct Text: Equatable, Sendable {
        /// The number of tokens of a text, padding included.
        package let contextLength: Int
        /// The number of token ids.
        package let vocabularySize: Int
        /// The number of layers, their width, the width of an
        /// MLP's inner layer, and the number of attention heads.
        let layers, width, inner, heads: Int
    }

    /// The length of an image's or a text's embedding, `embed_dim`.
    let embedding: Int
    /// The vision transformer, `vision_cfg`.
    package let vision: VisionSizes
    /// The text transformer, `text_cfg`.
    package let text: Text

    /// ViT-H-14, as in laion/CLIP-ViT-H-14-laion2B-s32B-b79K, HPSv2 and HPSv2.1.
    package static let vitH14 = OpenCLIPConfiguration(
        embedding: 1024, vision: .vitH14,
        text: Text(contextLength: 77, vocabularySize: 49408, layers: 24, width: 1024, inner: 4096, heads: 16))

    /// A summary for the log.
    package var description: String {
        "CLIP with a \(vision) and a text tower of \(text.layers) layers, \(text.width) wide"
    }
}

extension OpenCLIPConfiguration {
    /// Reads the sizes from the shapes of the weights.
    ///
    /// The numbers of attention heads cannot be read from weights. In all of open_clip's configurations a
    /// head is 64 wide, but the vision tower has at most 16 heads.
    /// - Throws: `ModelError` that names the file and the tensor.
    init(_ shapes: CheckpointShapes) throws {
        func heads(_ width: Int) -> Int { max(1, width / 64) }
        vision = try shapes.vision(
            patches: "visual.conv1.weight", positions: "visual.positional_embedding", rank: 2, layers: "visual.transformer.resblocks.",
            mlp: "mlp.c_fc.weight", heads: { min(16, heads($0)) })
        let words = try shapes.shape("token_embedding.weight", rank: 2)
        let layers = "transformer.resblocks."
        text = Text(
            contextLength: try shapes.shape("positional_embedding", rank: 2)[0], vocabularySize: words[0],
            layers: try shapes.layers(layers), width: words[1], inner: try shapes.shape(layers + "0.mlp.c_fc.weight", rank: 2)[0],
            heads: heads(words[1]))
        embedding = try shapes.shape("text_projection", rank: 2)[1]
        try shapes.validate(text.width, heads: text.heads)
    }
}
