import NN
import Tensors

/// BERT whose layers look at a picture's features as well: BLIP's image-grounded text encoder.
///
/// Source: Devlin et al. 2018; Li et al. 2022 (BLIP, med.py). Names are those of their checkpoints. There are no token types.
struct BERTModel {
    /// Sizes, as the tensors of a checkpoint tell them.
    struct Sizes: Equatable {
        let vocabulary, positions, width, inner, layers, heads, pictureWidth: Int

        /// bert-base-uncased's, with two tokens more, on top of ViT-L: ImageReward's.
        static let imageReward = Sizes(
            vocabulary: 30524, positions: 512, width: 768, inner: 3072, layers: 12, heads: 12, pictureWidth: 1024)
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

    /// - Parameters:
    ///   - ids: int64 [B, L], without padding.
    ///   - picture: features [B, P, pictureWidth].
    /// - Returns: [B, L, width].
    func callAsFunction(_ ids: Tensor, picture: Tensor) -> Tensor {
        let places = Tensor.arange(ids.size(1), device: ids.device)
        let embedded = norm((words(ids) + positions(places)).to(picture.dtype))
        return layers.reduce(embedded) { $1($0, picture: picture) }
    }

    private struct Layer {
        private let attention, crossAttention: Attention
        private let intermediate, output: Linear
        private let norm: LayerNorm

        init(_ s: Sizes, _ scope: Scope) {
            attention = Attention(s.width, context: s.width, heads: s.heads, scope / "attention")
            crossAttention = Attention(s.width, context: s.pictureWidth, heads: s.heads, scope / "crossattention")
            intermediate = Linear(s.width, s.inner, scope / "intermediate" / "dense")
            output = Linear(s.inner, s.width, scope / "output" / "dense")
            norm = LayerNorm(s.width, eps: BERTModel.eps, scope / "output" / "LayerNorm")
        }

        func callAsFunction(_ x: Tensor, picture: Tensor) -> Tensor {
            let own = attention(x, context: x)
            let y = crossAttention(own, context: picture)
            return norm(output(intermediate(y).gelu()) + y)
        }
    }

    /// Attention with its residual and norm.
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
