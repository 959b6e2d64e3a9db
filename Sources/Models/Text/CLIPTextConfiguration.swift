import NN

/// transformers' CLIPTextConfig. A file may leave keys out, whose values are transformers' defaults then.
struct CLIPTextConfiguration: Decodable {
    let sizes: CLIPTextSizes
    let eps: Double
    /// The end token's id; nil if the file has something else than one number there.
    let eosTokenID: Int?
    private let activationName: String

    private enum Key: String, CodingKey {
        case vocabSize, hiddenSize, intermediateSize, numHiddenLayers, numAttentionHeads, maxPositionEmbeddings
        case hiddenAct, layerNormEps, eosTokenId
    }

    init(from decoder: any Decoder) throws {
        let object = try decoder.container(keyedBy: Key.self)
        // A null is an error: transformers' defaults are for keys that are not there.
        func value<Value: Decodable>(_ key: Key, _ reference: Value) throws -> Value {
            object.contains(key) ? try object.decode(Value.self, forKey: key) : reference
        }
        sizes = CLIPTextSizes(
            contextLength: try value(.maxPositionEmbeddings, 77), vocabularySize: try value(.vocabSize, 49408),
            layers: try value(.numHiddenLayers, 12), width: try value(.hiddenSize, 512), inner: try value(.intermediateSize, 2048),
            heads: try value(.numAttentionHeads, 8))
        activationName = try value(.hiddenAct, Activation.quickGELU.rawValue)
        eps = try value(.layerNormEps, 1e-5)
        eosTokenID = try? value(.eosTokenId, 49407)
    }

    /// Returns the activation of the MLPs, and checks the sizes.
    /// - Throws: `ModelError` that names `file`.
    func validate(_ file: String) throws -> Activation {
        guard let activation = Activation(rawValue: activationName) else {
            throw ModelError("\(file): hidden_act '\(activationName)' is not supported")
        }
        try sizes.validate(file)
        return activation
    }
}
