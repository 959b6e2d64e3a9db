import NN

/// The sizes of a CLIP with both towers.
package struct CLIPConfiguration: Equatable, Sendable, CustomStringConvertible {
    /// The length of an image's or a text's embedding.
    let embedding: Int
    /// The activation of the MLPs of both towers.
    let activation: Activation
    /// The vision transformer.
    package let vision: VisionSizes
    /// The text transformer.
    package let text: CLIPTextSizes

    /// ViT-H-14, as in laion/CLIP-ViT-H-14-laion2B-s32B-b79K, HPSv2, HPSv2.1 and PickScore.
    package static let vitH14 = CLIPConfiguration(
        embedding: 1024, activation: .gelu, vision: .vitH14,
        text: CLIPTextSizes(contextLength: 77, vocabularySize: 49408, layers: 24, width: 1024, inner: 4096, heads: 16))

    /// A summary for the log.
    package var description: String {
        "CLIP with a \(vision) and a text tower of \(text.layers) layers, \(text.width) wide, \(activation.rawValue)"
    }
}

extension CLIPConfiguration {
    /// Reads the sizes of open_clip's CLIP from the shapes of the weights.
    ///
    /// The numbers of attention heads cannot be read from weights. In all of open_clip's configurations a
    /// head is 64 wide, but the vision tower has at most 16 heads. Nor can the activation: it is GELU here,
    /// as in all CLIPs but OpenAI's own.
    /// - Throws: `ModelError` that names the file and the tensor.
    init(openCLIP shapes: CheckpointShapes) throws {
        func heads(_ width: Int) -> Int { max(1, width / 64) }
        activation = .gelu
        vision = try shapes.vision(
            patches: "visual.conv1.weight", positions: "visual.positional_embedding", rank: 2, layers: "visual.transformer.resblocks.",
            mlp: "mlp.c_fc.weight", heads: { min(16, heads($0)) })
        let words = try shapes.shape("token_embedding.weight", rank: 2)
        let layers = "transformer.resblocks."
        text = CLIPTextSizes(
            contextLength: try shapes.shape("positional_embedding", rank: 2)[0], vocabularySize: words[0],
            layers: try shapes.layers(layers), width: words[1], inner: try shapes.shape(layers + "0.mlp.c_fc.weight", rank: 2)[0],
            heads: heads(words[1]))
        embedding = try shapes.shape("text_projection", rank: 2)[1]
        try shapes.validate(text.width, heads: text.heads)
    }
}
