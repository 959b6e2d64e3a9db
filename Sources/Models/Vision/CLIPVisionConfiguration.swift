import NN

/// transformers' CLIPVisionConfig. Files may leave values out; the defaults are transformers' own.
struct CLIPVisionConfiguration: Decodable {
    let projectionDim: Int?
    private let hiddenSize, intermediateSize, numHiddenLayers, numAttentionHeads, numChannels, imageSize, patchSize: Int?
    private let hiddenAct: String?
    private let layerNormEps: Double?

    var sizes: VisionSizes {
        VisionSizes(
            width: hiddenSize ?? 768, inner: intermediateSize ?? 3072, layers: numHiddenLayers ?? 12, heads: numAttentionHeads ?? 12,
            imageSize: imageSize ?? 224, patchSize: patchSize ?? 32)
    }

    var eps: Double { layerNormEps ?? 1e-5 }

    /// Returns the activation of the MLPs, and checks the sizes.
    /// - Throws: `ModelError` that names `file`.
    func validate(_ file: String) throws -> Activation {
        let activationName = hiddenAct ?? Activation.quickGELU.rawValue
        guard let activation = Activation(rawValue: activationName) else {
            throw ModelError("\(file): hidden_act '\(activationName)' is not supported")
        }
        try sizes.validate(file)
        guard numChannels ?? 3 == 3 else {
            throw ModelError("\(file): num_channels \(numChannels!) is not supported (3 is)")
        }
        return activation
    }
}
