import Foundation
import NN
import Tensors

/// ImageReward: what people would say of a picture and its prompt. BLIP's text encoder reads the prompt and looks at the picture, and a linear
/// head rates the result.
///
/// Source: Xu et al. 2023 (arXiv 2304.05977), ImageReward.py; sizes are read from the weights.
public final class ImageRewardModel {
    /// Mean and deviation of the published model's raw scores.
    private static let (mean, deviation) = (0.16717362830052426, 1.0333394966054072)
    /// Width of an attention head, in both towers.
    private static let headWidth = 64

    /// Tokens of a prompt, as in the published code.
    public static let promptLength = 35

    /// Height and width of the pictures.
    public let imageSize: Int
    /// Token ids that there are.
    public let vocabularySize: Int
    private let vision: BLIPVisionModel
    private let text: BERTModel
    private let head: RatingHead
    private let dtype: DType
    private let device: Device

    /// Loads `ImageReward.pt`, or the same tensors in a `.safetensors` file; frozen.
    /// - Parameter dtype: what it computes in, but for the head, which is float32.
    /// - Throws: one line with every tensor that is missing, superfluous or misshapen.
    public init(weights file: URL, dtype: DType = .float32, device: Device = .cpu) throws {
        let tensors = try TensorFile.read(file)
        func shape(_ name: String) throws -> [Int] {
            guard let tensor = tensors[name] else { throw ModelError("\(file.path): has no \(name), so it is not ImageReward's") }
            return tensor.shape
        }
        func layers(_ prefix: String) throws -> Int {
            let found = Set(tensors.keys.compactMap { $0.hasPrefix(prefix) ? Int($0.dropFirst(prefix.count).prefix { $0 != "." }) : nil })
            guard 1..<1000 ~= found.count, found == Set(0..<found.count) else {
                throw ModelError("\(file.path): the layers of \(prefix) are not numbered from 0 on, or are too many")
            }
            return found.count
        }
        func last(_ name: String, rank: Int) throws -> [Int] {
            let found = try shape(name)
            guard found.count == rank, found.allSatisfy({ $0 > 0 }) else {
                throw ModelError("\(file.path): \(name) has the shape \(found)")
            }
            return found
        }
        let (visual, language) = ("blip.visual_encoder.", "blip.text_encoder.")
        let patch = try last(visual + "patch_embed.proj.weight", rank: 4)
        let side = Int(Double(try last(visual + "pos_embed", rank: 3)[1] - 1).squareRoot().rounded())
        guard 1...64 ~= side else { throw ModelError("\(file.path): pictures of \(side) patches in a row, not of 1 to 64") }
        let positions = try last(language + "embeddings.position_embeddings.weight", rank: 2)[0]
        guard positions >= Self.promptLength else {
            throw ModelError("\(file.path): has room for \(positions) tokens, a prompt has up to \(Self.promptLength)")
        }
        let words = try last(language + "embeddings.word_embeddings.weight", rank: 2)
        let (width, textWidth) = (patch[0], words[1])
        guard width % Self.headWidth == 0, textWidth % Self.headWidth == 0 else {
            throw ModelError("\(file.path): widths \(width) and \(textWidth) are no multiples of \(Self.headWidth)")
        }
        imageSize = side * patch[2]
        vocabularySize = words[0]
        let store = ParameterStore(checkpoint: tensors, origin: file.path, dtype: dtype, device: device)
        let blip = store.root / "blip"
        vision = BLIPVisionModel(
            .init(
                width: width, inner: try last(visual + "blocks.0.mlp.fc1.weight", rank: 2)[0], layers: try layers(visual + "blocks."),
                heads: width / Self.headWidth, imageSize: imageSize, patchSize: patch[2]), blip / "visual_encoder")
        text = BERTModel(
            .init(
                vocabulary: words[0], positions: positions, width: textWidth,
                inner: try last(language + "encoder.layer.0.intermediate.dense.weight", rank: 2)[0],
                layers: try layers(language + "encoder.layer."), heads: textWidth / Self.headWidth, pictureWidth: width),
            blip / "text_encoder")
        head = RatingHead(textWidth, store.root / "mlp" / "layers")
        // Projections of BLIP's training, and a buffer that counts.
        try store.finish { $0.hasPrefix("blip.vision_proj.") || $0.hasPrefix("blip.text_proj.") || $0.hasSuffix("position_ids") }
        (self.dtype, self.device) = (dtype, device)
    }

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
