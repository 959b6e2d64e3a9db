import Foundation
import NN
import Tensors

/// ImageReward: what people would say of a picture and its prompt. BLIP's text encoder reads the prompt and looks at the picture, and a linear
/// head rates the result.
///
/// Source: Xu et al. 2023 (arXiv 2304.05977), ImageReward.py; sizes are read from the weights.
public final class ImageRewardModel: CustomStringConvertible {
    /// Mean and deviation of the published model's raw scores.
    private static let (mean, deviation) = (0.16717362830052426, 1.0333394966054072)
    /// Width of an attention head, in both towers.
    private static let headWidth = 64

    /// Tokens of a prompt, as in the published code.
    public static let promptLength = 35

    /// Sizes of the two towers.
    private let sizes: (vision: VisionSizes, text: BERTModel.Sizes)
    private let vision: BLIPVisionModel
    private let text: BERTModel
    private let head: RatingHead
    private let dtype: DType
    private let device: Device
    /// Tensors of the file that are none of the model's: the published code loads a file with such, and so does this.
    public let unused: [String]

    /// Loads `ImageReward.pt`, or the same tensors in a `.safetensors` file; frozen.
    /// - Parameter dtype: what it computes in, but for the head, which is float32.
    /// - Throws: one line with every tensor that is missing or misshapen.
    public init(weights file: URL, dtype: DType = .float32, device: Device = .cpu) throws {
        let tensors = try TensorFile.read(file)
        let shapes = CheckpointShapes(tensors: tensors, origin: file.path, owner: "ImageReward's")
        let (visual, language) = ("blip.visual_encoder.", "blip.text_encoder.")
        let layers = language + "encoder.layer."
        let pictures = try shapes.vision(
            patches: visual + "patch_embed.proj.weight", positions: visual + "pos_embed", rank: 3, layers: visual + "blocks.",
            mlp: "mlp.fc1.weight", heads: { $0 / Self.headWidth })
        let words = try shapes.shape(language + "embeddings.word_embeddings.weight", rank: 2)
        let texts = BERTModel.Sizes(
            vocabulary: words[0], positions: try shapes.shape(language + "embeddings.position_embeddings.weight", rank: 2)[0],
            width: words[1], inner: try shapes.shape(layers + "0.intermediate.dense.weight", rank: 2)[0], layers: try shapes.layers(layers),
            heads: words[1] / Self.headWidth, pictureWidth: pictures.width)
        guard texts.positions >= Self.promptLength else {
            throw ModelError("\(file.path): has room for \(texts.positions) tokens, a prompt has up to \(Self.promptLength)")
        }
        guard pictures.width.isMultiple(of: Self.headWidth), texts.width.isMultiple(of: Self.headWidth) else {
            throw ModelError("\(file.path): widths \(pictures.width) and \(texts.width) are no multiples of \(Self.headWidth)")
        }
        let store = ParameterStore(checkpoint: tensors, origin: file.path, dtype: dtype, device: device)
        vision = BLIPVisionModel(pictures, store.root / "blip" / "visual_encoder")
        text = BERTModel(texts, store.root / "blip" / "text_encoder")
        head = RatingHead(texts.width, store.root / "mlp" / "layers")
        // Projections of BLIP's training, and a buffer that counts.
        unused = try store.finish(allowingOthers: true) {
            $0.hasPrefix("blip.vision_proj.") || $0.hasPrefix("blip.text_proj.") || $0.hasSuffix("position_ids")
        }
        (sizes, self.dtype, self.device) = ((pictures, texts), dtype, device)
    }

    /// Height and width of the pictures.
    public var imageSize: Int { sizes.vision.imageSize }
    /// Token ids that there are.
    public var vocabularySize: Int { sizes.text.vocabulary }
    /// Whether the sizes are those of the model that is published.
    public var isPublished: Bool { sizes == (.vitL16, .imageReward) }
    /// For people.
    public var description: String { "BLIP with a \(sizes.vision) and a BERT of \(sizes.text.layers) layers, \(sizes.text.width) wide" }

    /// Scores, float32 [n]: about -2 to 2.
    /// - Parameters:
    ///   - images: float32 [n, 3, imageSize, imageSize], normalised with CLIP's mean and deviation.
    ///   - ids: n lists of token ids, without padding.
    public func callAsFunction(_ images: Tensor, ids: [[Int]]) throws -> [Float] {
        guard images.shape == [ids.count, 3, imageSize, imageSize] else {
            throw ModelError("pictures for ImageReward must be [\(ids.count), 3, \(imageSize), \(imageSize)], not \(images.shape)")
        }
        let features = vision(images.to(device).to(dtype))
        var scores = [Float](repeating: 0, count: ids.count)
        // Texts of one length at a time: no padding, so no mask.
        for (length, group) in Dictionary(grouping: ids.indices, by: { ids[$0].count }) {
            let tokens = Tensor(group.flatMap { ids[$0].map(Int64.init) }, shape: [group.count, length], device: device)
            let first = text(tokens, picture: features.rows(group)).select(1, 0).to(.float32)
            let raw = head(first)
            for (place, score) in try ((raw - Self.mean) / Self.deviation).array(Float.self).enumerated() { scores[group[place]] = score }
        }
        return scores
    }
}
