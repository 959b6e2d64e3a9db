import NN
import Tensors

/// BERT whose layers attend to an image's features as well: BLIP's image-grounded text encoder.
///
/// Parameters have the names of the published checkpoints. There are no token types.
/// Source: Devlin et al. 2018; Li et al. 2022 (BLIP, med.py).
struct BERTModel {
    /// The sizes, which are read from the shapes of a checkpoint.
    struct Sizes: Equatable {
        let vocabulary, positions, width, inner, layers, heads, imageWidth: Int

        /// Sizes of ImageReward: bert-base-uncased with two tokens more, on the features of a ViT-L.
        static let imageReward = Sizes(
            vocabulary: 30524, positions: 512, width: 768, inner: 3072, layers: 12, heads: 12, imageWidth: 1024)
    }

    private static let eps = 1e-12
    private let words, positions: Embedding
    private let norm: LayerNorm
    private let layers: [Layer]

    init(_ s: Sizes, _ scope: Scope) {
        words = Embedding(s.vocabulary, s.width, scope / "embeddings" / "word_embeddings")
        positions = Embedding(s.positions, s.width, scope / "embeddings" / "position_embeddings")
        norm = LayerNorm(s.width, eps: Self.eps, scope / "embeddings" / "LayerNorm")
        layers = (0..<s.layers).map { Layer(s, scope / "encoder" / "layer" / $0) }
    }

    /// Encodes texts and images together.
    /// - Parameters:
    ///   - ids: int64 [B, L], without padding.
    ///   - image: features [B, P, imageWidth].
    /// - Returns: [B, L, width].
    func callAsFunction(_ ids: Tensor, image: Tensor) -> Tensor {
        let places = Tensor.arange(ids.size(1), device: ids.device)
        let embedded = norm((words(ids) + positions(places)).to(image.dtype))
        return layers.reduce(embedded) { $1($0, image: image) }
    }

    private struct Layer {
        private let attention, crossAttention: Attention
        private let intermediate, output: Linear
        private let norm: LayerNorm

        init(_ s: Sizes, _ scope: Scope) {
            attention = Attention(s.width, context: s.width, heads: s.heads, scope / "attention")
            crossAttention = Attention(s.width, context: s.imageWidth, heads: s.heads, scope / "crossattention")
            intermediate = Linear(s.width, s.inner, scope / "intermediate" / "dense")
            output = Linear(s.inner, s.width, scope / "output" / "dense")
            norm = LayerNorm(s.width, eps: BERTModel.eps, scope / "output" / "LayerNorm")
        }

        func callAsFunction(_ x: Tensor, image: Tensor) -> Tensor {
            let own = attention(x, context: x)
            let y = crossAttention(own, context: image)
            return norm(output(intermediate(y).gelu()) + y)
        }
    }

    /// Multi-head attention, followed by residual and layer norm.
    private struct Attention {
        private let query, key, value, dense: Linear
        private let norm: LayerNorm
        private let heads: Int

        init(_ width: Int, context: Int, heads: Int, _ scope: Scope) {
            query = Linear(width, width, scope / "self" / "query")
            key = Linear(context, width, scope / "self" / "key")
            value = Linear(context, width, scope / "self" / "value")
            dense = Linear(width, width, scope / "output" / "dense")
            norm = LayerNorm(width, eps: BERTModel.eps, scope / "output" / "LayerNorm")
            self.heads = heads
        }

        func callAsFunction(_ x: Tensor, context: Tensor) -> Tensor {
            norm(dense(Tensor.attention(query(x), key(context), value(context), heads: heads)) + x)
        }
    }
}
