import NN
import Tensors

/// The token of a text whose output stands for the whole text.
enum CLIPTextEnd: Equatable {
    /// The first one with the highest id.
    case highestID
    /// The first one with this id.
    case id(Int)

    /// Makes transformers' rule. Published files of before its version 4.31 have 2, which is not the end token's id
    /// but stands for the highest.
    init(eosTokenID: Int) { self = eosTokenID == 2 ? .highestID : .id(eosTokenID) }

    /// Returns the token's place; nil if the text has no such token.
    func place(in ids: [Int]) -> Int? {
        switch self {
        case .highestID: ids.max().flatMap(ids.firstIndex)
        case .id(let id): ids.firstIndex(of: id)
        }
    }
}

/// CLIP's text transformer. Parameters have transformers' names or open_clip's.
///
/// Source: Radford et al. 2021 (CLIP).
struct CLIPTextTower {
    private let sizes: CLIPTextSizes
    private let tokenEmbedding: Embedding
    private let positions: Tensor
    private let layers: [CLIPLayer]
    private let finalNorm: LayerNorm

    /// Builds transformers' CLIPTextTransformer from `scope`.
    init(_ s: CLIPTextSizes, eps: Double, _ activation: Activation, _ scope: Scope) {
        sizes = s
        let embeddings = scope / "embeddings"
        tokenEmbedding = Embedding(s.vocabularySize, s.width, embeddings / "token_embedding")
        positions = (embeddings / "position_embedding").parameter("weight", [s.contextLength, s.width], .normal(0.02))
        layers = (0..<s.layers).map {
            CLIPLayer(s.width, s.inner, heads: s.heads, eps: eps, activation, scope / "encoder" / "layers" / $0)
        }
        finalNorm = LayerNorm(s.width, eps: eps, scope / "final_layer_norm")
    }

    /// Builds the text part of open_clip's CLIP from `scope`.
    init(openCLIP s: CLIPTextSizes, _ activation: Activation, _ scope: Scope) {
        sizes = s
        tokenEmbedding = Embedding(s.vocabularySize, s.width, scope / "token_embedding")
        positions = scope.parameter("positional_embedding", [s.contextLength, s.width], .normal(0.01))
        layers = (0..<s.layers).map {
            CLIPLayer(openCLIP: s.width, s.inner, heads: s.heads, activation, scope / "transformer" / "resblocks" / $0)
        }
        finalNorm = LayerNorm(s.width, scope / "ln_final")
    }

    /// Returns the last hidden state of all tokens after the final norm, [n, L, width].
    /// - Parameter ids: token ids, n lists of equal length L of at most `contextLength`.
    /// - Throws: `ModelError` if lengths or ids do not fit.
    func callAsFunction(_ ids: [[Int]]) throws -> Tensor {
        try validate(ids)
        return finalNorm(hidden(ids))
    }

    /// Returns the last hidden state of one token of each text after the final norm, [n, width].
    /// - Parameter ids: as above.
    /// - Throws: `ModelError` if lengths or ids do not fit, or a text has no such token.
    func callAsFunction(_ ids: [[Int]], at end: CLIPTextEnd) throws -> Tensor {
        try validate(ids)
        let places = try ids.map { ids in
            guard let place = end.place(in: ids) else { throw ModelError("the token ids \(ids) have no end token") }
            return place
        }
        // The tower is causal, so tokens after the last end token can be left out.
        let length = places.max()! + 1
        let y = hidden(ids.map { Array($0.prefix(length)) })
        return finalNorm(y.reshape([ids.count * length, sizes.width]).rows(places.enumerated().map { $0 * length + $1 }))
    }

    private func validate(_ ids: [[Int]]) throws {
        let length = ids.first?.count ?? 0
        guard length > 0, length <= sizes.contextLength,
            ids.allSatisfy({ $0.count == length && $0.allSatisfy { 0 <= $0 && $0 < sizes.vocabularySize } })
        else {
            throw ModelError(
                "token ids must be lists of one length of 1 to \(sizes.contextLength) with ids below \(sizes.vocabularySize)")
        }
    }

    /// Returns the last layer's output, [n, L, width].
    private func hidden(_ ids: [[Int]]) -> Tensor {
        let length = ids[0].count
        let tokens = Tensor(ids.joined().map(Int64.init), shape: [ids.count, length], device: positions.device)
        return layers.reduce(tokenEmbedding(tokens) + positions.narrow(0, 0, length)) { $1($0, causal: true) }
    }
}
