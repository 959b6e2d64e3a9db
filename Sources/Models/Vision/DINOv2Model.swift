import Foundation
import NN
import Tensors

/// transformers' Dinov2Model, such as facebook/dinov2-base: a vision transformer that was trained on images alone.
///
/// Source: Oquab et al. 2023 (DINOv2). Parameters have the names of the published files.
package final class DINOv2Model {
    /// The values of transformers' Dinov2Config for keys that a file lacks, and what is not implemented here.
    private static let reference = ReferenceDefaults(
        [
            "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "mlp_ratio": 4, "hidden_act": "gelu",
            "layer_norm_eps": 1e-6, "image_size": 224, "patch_size": 14,
        ],
        fixed: ["num_channels": 3, "qkv_bias": true, "use_swiglu_ffn": false])

    private struct File: Decodable {
        let architectures: [String]?
        let hiddenSize, numHiddenLayers, numAttentionHeads, imageSize, patchSize: Int
        let mlpRatio, layerNormEps: Double
        let hiddenAct: String
    }

    /// The sizes of the transformer; `imageSize` is that of the stored positions.
    package let sizes: VisionSizes
    private let patches: Conv2d
    private let classToken, positions: Tensor
    private let layers: [Layer]
    private let norm: LayerNorm
    private let dtype: DType

    /// Loads configuration and weights, frozen.
    /// - Parameter dtype: the type to compute in.
    /// - Throws: `ModelError` or `TensorFileError` that names the file.
    package init(folder: ModelFolder, dtype: DType = .float32, device: Device = .cpu) throws {
        let name = folder.url.appendingPathComponent("config.json").path
        let file = try folder.decode(File.self, Self.reference)
        if let architecture = file.architectures?.first, architecture != "Dinov2Model" {
            throw ModelError("\(name): '\(architecture)' is not supported (Dinov2Model is)")
        }
        guard let activation = Activation(rawValue: file.hiddenAct) else {
            throw ModelError("\(name): hidden_act '\(file.hiddenAct)' is not supported")
        }
        guard SizeLimits.widths.contains(file.hiddenSize), (0.01...100).contains(file.mlpRatio) else {
            throw ModelError(
                "\(name): hidden_size \(file.hiddenSize) with mlp_ratio \(file.mlpRatio) is not from 1 to \(SizeLimits.widths.upperBound) "
                    + "with 0.01 to 100")
        }
        sizes = VisionSizes(
            width: file.hiddenSize, inner: Int(Double(file.hiddenSize) * file.mlpRatio), layers: file.numHiddenLayers,
            heads: file.numAttentionHeads, imageSize: file.imageSize, patchSize: file.patchSize)
        try sizes.validate(name)
        let store = try folder.parameters(dtype: dtype, device: device)
        let embeddings = store.root / "embeddings"
        patches = Conv2d(3, sizes.width, kernel: sizes.patchSize, stride: sizes.patchSize, embeddings / "patch_embeddings" / "projection")
        classToken = embeddings.parameter("cls_token", [1, 1, sizes.width], .normal(0.02))
        positions = embeddings.parameter("position_embeddings", [1, sizes.tokens, sizes.width], .normal(0.02))
        let s = sizes
        layers = (0..<s.layers).map { Layer(s, eps: file.layerNormEps, activation, store.root / "encoder" / "layer" / $0) }
        norm = LayerNorm(s.width, eps: file.layerNormEps, store.root / "layernorm")
        self.dtype = dtype
        // Training replaces patches by this one.
        try store.finish { $0 == "embeddings.mask_token" }
    }

    /// Returns the class token after the last norm (transformers' `pooler_output`), float32 [n, width].
    /// - Parameter images: float32 [n, 3, H, W], normalised. Positions are interpolated if their number is another.
    /// - Throws: `ModelError` if the images have another shape or type; `TensorError` if an operation failed.
    package func callAsFunction(_ images: Tensor) throws -> Tensor {
        let patch = sizes.patchSize
        guard images.rank == 4, images.size(1) == 3, images.size(2) >= patch, images.size(3) >= patch, images.dtype == .float32 else {
            throw ModelError(
                "images for DINOv2 must be float32 [n, 3, H, W] of \(patch) pixels or more, not \(images.dtype) \(images.shape)")
        }
        let grid = patches(images.to(dtype))
        let n = grid.size(0)
        let tokens = grid.reshape([n, sizes.width, grid.size(2) * grid.size(3)]).transpose(1, 2)
        let x = Tensor.cat([classToken.expand([n, 1, sizes.width]), tokens], 1) + positions(height: grid.size(2), width: grid.size(3))
        let features = norm(layers.reduce(x) { $1($0) }).select(1, 0).to(.float32)
        try TensorError.check()
        return features
    }

    /// Returns the positions of the class token and of a grid of patches, [1, 1 + height * width, size].
    private func positions(height: Int, width: Int) -> Tensor {
        let side = sizes.imageSize / sizes.patchSize
        if height == side, width == side { return positions }
        let own = positions.narrow(1, 1, side * side).to(.float32).reshape([1, side, side, sizes.width]).permute([0, 3, 1, 2])
        let resized = own.resizeBicubic(height: height, width: width, antialias: false).permute([0, 2, 3, 1])
        return Tensor.cat([positions.narrow(1, 0, 1), resized.reshape([1, height * width, sizes.width]).to(dtype)], 1)
    }

    /// A pre-norm layer whose two branches are scaled channel by channel (LayerScale: Touvron et al. 2021).
    private struct Layer {
        private let norm1, norm2: LayerNorm
        private let query, key, value, out, fc1, fc2: Linear
        private let scale1, scale2: Tensor
        private let heads: Int
        private let activation: Activation

        init(_ s: VisionSizes, eps: Double, _ activation: Activation, _ scope: Scope) {
            norm1 = LayerNorm(s.width, eps: eps, scope / "norm1")
            let attention = scope / "attention" / "attention"
            query = Linear(s.width, s.width, attention / "query")
            key = Linear(s.width, s.width, attention / "key")
            value = Linear(s.width, s.width, attention / "value")
            out = Linear(s.width, s.width, scope / "attention" / "output" / "dense")
            scale1 = (scope / "layer_scale1").parameter("lambda1", [s.width], .ones)
            norm2 = LayerNorm(s.width, eps: eps, scope / "norm2")
            fc1 = Linear(s.width, s.inner, scope / "mlp" / "fc1")
            fc2 = Linear(s.inner, s.width, scope / "mlp" / "fc2")
            scale2 = (scope / "layer_scale2").parameter("lambda1", [s.width], .ones)
            heads = s.heads
            self.activation = activation
        }

        func callAsFunction(_ x: Tensor) -> Tensor {
            let inner = norm1(x)
            let y = x + out(Tensor.attention(query(inner), key(inner), value(inner), heads: heads)) * scale1
            return y + fc2(activation(fc1(norm2(y)))) * scale2
        }
    }
}
