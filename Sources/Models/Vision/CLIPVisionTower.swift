import NN
import Tensors

/// CLIP's vision transformer with its projection. Parameters have transformers' names or open_clip's.
///
/// Source: Dosovitskiy et al. 2021 (ViT), Radford et al. 2021 (CLIP).
struct CLIPVisionTower {
    private let sizes: VisionSizes
    private let patches, classEmbedding, positions, projection: Tensor
    private let preNorm, postNorm: LayerNorm
    private let layers: [CLIPLayer]

    /// Builds transformers' CLIPVisionTransformer from `scope`, and
    /// the projection's matrix [embedding, width] from `projection`.
    init(
        _ s: VisionSizes, embedding: Int, eps: Double, _ activation: Activation, _ scope: Scope,
        projection projectionScope: Scope
    ) {
        sizes = s
        let embeddings = scope / "embeddings"
        patches = (embeddings / "patch_embedding").parameter("weight", [s.width, 3, s.patchSize, s.patchSize], .normal(0.02))
        classEmbedding = embeddings.parameter("class_embedding", [s.width], .normal(0.02))
        positions = (embeddings / "position_embedding").parameter("weight", [s.tokens, s.width], .normal(0.02))
        preNorm = LayerNorm(s.width, eps: eps, scope / "pre_layrnorm")  // spelt so in transformers
        layers = (0..<s.layers).map {
            CLIPLayer(s.width, s.inner, heads: s.heads, eps: eps, activation, scope / "encoder" / "layers" / $0)
        }
        postNorm = LayerNorm(s.width, eps: eps, scope / "post_layernorm")
        projection = projectionScope.parameter("weight", [embedding, s.width], .fanIn(s.width)).transpose(0, 1)
    }

    /// Builds open_clip's VisionTransformer from `scope`, with its matrix `proj` [width, embedding].
    init(openCLIP s: VisionSizes, embedding: Int, _ activation: Activation, _ scope: Scope) {
        sizes = s
        patches = (scope / "conv1").parameter("weight", [s.width, 3, s.patchSize, s.patchSize], .normal(0.02))
        classEmbedding = scope.parameter("class_embedding", [s.width], .normal(0.02))
        positions = scope.parameter("positional_embedding", [s.tokens, s.width], .normal(0.02))
        preNorm = LayerNorm(s.width, scope / "ln_pre")
        layers = (0..<s.layers).map {
            CLIPLayer(openCLIP: s.width, s.inner, heads: s.heads, activation, scope / "transformer" / "resblocks" / $0)
        }
        postNorm = LayerNorm(s.width, scope / "ln_post")
        projection = scope.parameter("proj", [s.width, embedding], .fanIn(s.width))
    }

    /// Maps normalised images, float32 [n, 3, imageSize, imageSize], to embeddings, float32 [n, embedding].
    /// - Throws: `ModelError` if the images have another shape or type.
    func callAsFunction(_ images: Tensor) throws -> Tensor {
        let size = sizes.imageSize
        guard images.rank == 4, Array(images.shape.dropFirst()) == [3, size, size], images.dtype == .float32 else {
            throw ModelError("images for CLIP must be float32 [n, 3, \(size), \(size)], not \(images.dtype) \(images.shape)")
        }
        let n = images.size(0)
        let grid = images.to(patches.dtype).conv2d(patches, nil, stride: sizes.patchSize)
            .reshape([n, sizes.width, sizes.tokens - 1]).transpose(1, 2)
        let x = Tensor.cat([classEmbedding.expand([n, 1, sizes.width]), grid], 1) + positions
        let y = layers.reduce(preNorm(x)) { $1($0, causal: false) }
        return postNorm(y.select(1, 0)).matmul(projection).to(.float32)
    }
}
