import NN
import Tensors

/// BLIP's vision transformer. Parameters have timm's names.
///
/// Source: Dosovitskiy et al. 2021 (ViT); Li et al. 2022 (BLIP, vit.py).
struct BLIPVisionModel {
    private static let eps = 1e-6
    private let patches: Conv2d
    private let classToken, positions: Tensor
    private let blocks: [Block]
    private let norm: LayerNorm

    init(_ s: VisionSizes, _ scope: Scope) {
        patches = Conv2d(3, s.width, kernel: s.patchSize, stride: s.patchSize, scope / "patch_embed" / "proj")
        classToken = scope.parameter("cls_token", [1, 1, s.width], .normal(0.02))
        positions = scope.parameter("pos_embed", [1, s.tokens, s.width], .normal(0.02))
        blocks = (0..<s.layers).map { Block(s, scope / "blocks" / $0) }
        norm = LayerNorm(s.width, eps: Self.eps, scope / "norm")
    }

    /// Maps normalised images [n, 3, imageSize, imageSize] to features of all tokens, [n, tokens, width].
    func callAsFunction(_ images: Tensor) -> Tensor {
        let grid = patches(images)
        let n = grid.size(0)
        let width = grid.size(1)
        let tokens = grid.reshape([n, width, grid.size(2) * grid.size(3)]).transpose(1, 2)
        let x = Tensor.cat([classToken.to(images.dtype).expand([n, 1, width]), tokens], 1) + positions.to(images.dtype)
        return norm(blocks.reduce(x) { $1($0) })
    }

    private struct Block {
        private let norm1, norm2: LayerNorm
        private let qkv, projection, fc1, fc2: Linear
        private let heads: Int

        init(_ s: VisionSizes, _ scope: Scope) {
            norm1 = LayerNorm(s.width, eps: BLIPVisionModel.eps, scope / "norm1")
            qkv = Linear(s.width, 3 * s.width, scope / "attn" / "qkv")
            projection = Linear(s.width, s.width, scope / "attn" / "proj")
            norm2 = LayerNorm(s.width, eps: BLIPVisionModel.eps, scope / "norm2")
            fc1 = Linear(s.width, s.inner, scope / "mlp" / "fc1")
            fc2 = Linear(s.inner, s.width, scope / "mlp" / "fc2")
            heads = s.heads
        }

        func callAsFunction(_ x: Tensor) -> Tensor {
            let parts = qkv(norm1(x)).chunk(3, 2)
            let y = x + projection(Tensor.attention(parts[0], parts[1], parts[2], heads: heads))
            return y + fc2(fc1(norm2(y)).gelu())
        }
    }
}
