import Models
import Tensors

/// The cosines of images and their prompts by a CLIP. Embeddings of prompts are kept, since prompts recur.
package final class CLIPCosines {
    private let model: CLIPModel
    private let tokenizer: CLIPTokenizer
    private let log: (String) -> Void
    private var embeddings = TextCache<Tensor>()
    private var saidCuts = false

    /// - Parameters:
    ///   - tokenizer: the model's, with its vocabulary.
    ///   - log: writes a line for the user, once, when prompts are cut.
    package init(_ model: CLIPModel, _ tokenizer: CLIPTokenizer, log: @escaping (String) -> Void) {
        self.model = model
        self.tokenizer = tokenizer
        self.log = log
    }

    /// Returns n cosines, float32 [n].
    /// - Parameters:
    ///   - images: float32 [n, 3, imageSize, imageSize], normalised.
    ///   - prompts: one for each image.
    /// - Throws: `ModelError` if the images have another shape; `TensorError` if an operation failed.
    package func callAsFunction(_ images: Tensor, prompts: [String]) throws -> Tensor {
        if !saidCuts, let line = tokenizer.cutLine(prompts) {
            saidCuts = true
            log("warning: of a batch, \(line)")
        }
        let imageFeatures = try model.imageFeatures(images)
        let textFeatures = try embeddings.values(prompts) { new in
            let features = try model.textFeatures(new.map(tokenizer.encode))
            return new.indices.map { features.select(0, $0) }
        }
        return (imageFeatures * Tensor.stack(textFeatures, 0)).sum([-1])
    }
}
