import Foundation
import NN
import Tensors

/// ImageReward: predicts how people rate an image for its prompt.
///
/// BLIP's text encoder reads the prompt and attends to the image, and a linear head rates the result. Sizes
/// are read from the weights. Source: Xu et al. 2023 (arXiv 2304.05977), ImageReward.py.
package final class ImageRewardModel: CustomStringConvertible {
    /// Mean and deviation of the published model's raw scores.
    private static let mean = 0.16717362830052426
    private static let deviation = 1.0333394966054072
    /// The width of an attention head, in both towers.
    private static let headWidth = 64

    /// The largest number of tokens of a prompt, as in the published code.
    package static let promptLength = 35

    /// The sizes of the two towers.
    private let sizes: (vision: VisionSizes, text: BERTModel.Sizes)
    private let vision: BLIPVisionModel
    private let text: BERTModel
    private let head: RatingHead
    private let dtype: DType
    private let device: Device
    /// Names of the file's tensors that the model does not use. The published code accepts them, too.
    package let unused: [String]

    /// Loads `ImageReward.pt`, or the same tensors in a `.safetensors` file; frozen.
    /// - Parameter dtype: the type to compute in, except for the head, which gets float32.
    /// - Throws: `ModelError` or `TensorFileError`, one line that lists missing and misshapen tensors.
    package init(weights file: URL, dtype: DType = .float32, device: Device = .cpu) throws {
        let tensors = try TensorFile(contentsOf: file).tensors
        let shapes = CheckpointShapes(tensors: tensors, origin: file.path, owner: "ImageReward's")
        let visual = "blip.visual_encoder."
        let language = "blip.text_encoder."
        let layers = language + "encoder.layer."
        let visionSizes = try shapes.vision(
            patches: visual + "patch_embed.proj.weight", positions: visual + "pos_embed", rank: 3, layers: visual + "blocks.",
            mlp: "mlp.fc1.weight", heads: { $0 / Self.headWidth })
        let words = try shapes.shape(language + "embeddings.word_embeddings.weight", rank: 2)
        let textSizes = BERTModel.Sizes(
            vocabulary: words[0], positions: try shapes.shape(language + "embeddings.position_embeddings.weight", rank: 2)[0],
            width: words[1], inner: try shapes.shape(layers + "0.intermediate.dense.weight", rank: 2)[0],
            layers: try shapes.layers(layers), heads: words[1] / Self.headWidth, imageWidth: visionSizes.width)
        guard textSizes.positions >= Self.promptLength else {
            throw ModelError("\(file.path): has room for \(textSizes.positions) tokens, a prompt has up to \(Self.promptLength)")
        }
        guard visionSizes.width.isMultiple(of: Self.headWidth), textSizes.width.isMultiple(of: Self.headWidth) else {
            throw ModelError(
                "\(file.path): widths \(visionSizes.width) and \(textSizes.width) are no multiples of \(Self.headWidth)")
        }
        let store = ParameterStore(checkpoint: tensors, origin: file.path, dtype: dtype, device: device)
        vision = BLIPVisionModel(visionSizes, store.root / "blip" / "visual_encoder")
        text = BERTModel(textSizes, store.root / "blip" / "text_encoder")
        head = RatingHead(textSizes.width, store.root / "mlp" / "layers")
        // Projections that only BLIP's training uses, and a buffer of consecutive numbers.
        unused = try store.finish(allowingOthers: true) {
            $0.hasPrefix("blip.vision_proj.") || $0.hasPrefix("blip.text_proj.") || $0.hasSuffix("position_ids")
        }
        sizes = (visionSizes, textSizes)
        self.dtype = dtype
        self.device = device
    }

    /// The height and width of the images, in pixels.
    package var imageSize: Int { sizes.vision.imageSize }
    /// The number of token ids.
    package var vocabularySize: Int { sizes.text.vocabulary }
    /// Whether the sizes are those of the published model.
    package var isPublished: Bool { sizes == (.vitL16, .imageReward) }
    /// A summary for the log.
    package var description: String {
        "BLIP with a \(sizes.vision) and a BERT of \(sizes.text.layers) layers, \(sizes.text.width) wide"
    }

    /// Scores images: n numbers of about -2 to 2.
    /// - Parameters:
    ///   - images: float32 [n, 3, imageSize, imageSize], normalised with CLIP's mean and deviation.
    ///   - ids: n lists of token ids, without padding.
    /// - Throws: `ModelError` if the images have another shape; `TensorError` if an operation failed.
    package func callAsFunction(_ images: Tensor, ids: [[Int]]) throws -> [Float] {
        guard images.shape == [ids.count, 3, imageSize, imageSize] else {
            throw ModelError("images for ImageReward must be [\(ids.count), 3, \(imageSize), \(imageSize)], not \(images.shape)")
        }
        let features = vision(images.to(device).to(dtype))
        var scores = [Float](repeating: 0, count: ids.count)
        // Texts of equal length go together: without padding, no mask is needed.
        for (length, group) in Dictionary(grouping: ids.indices, by: { ids[$0].count }) {
            let tokens = Tensor(group.flatMap { ids[$0].map(Int64.init) }, shape: [group.count, length], device: device)
            let first = text(tokens, image: features.rows(group)).select(1, 0).to(.float32)
            let standardised = try ((head(first) - Self.mean) / Self.deviation).array(Float.self)
            for (place, score) in zip(group, standardised) { scores[place] = score }
        }
        return scores
    }
}
