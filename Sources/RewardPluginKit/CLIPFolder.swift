import Models
import Tensors

/// A CLIP with its tokenizer and its preprocessing, from a folder as transformers saves them.
package final class CLIPFolder {
    /// The model.
    package let model: CLIPModel
    private let processor: ImageProcessor
    private let cosines: CLIPCosines

    /// Loads the folder that the option `weights` names.
    /// - Parameter hint: a description of the folder, for messages.
    /// - Throws: `RewardPluginError`, `ModelError`, `TensorFileError` or `TokenizerError`, one line that names the option
    ///   or the file.
    package init(_ settings: NeuralSettings, _ hint: String) throws {
        let folder = try settings.folder("weights", hint) { folder in
            try [ImageProcessor(folder: folder).file] + CLIPTokenizer.files(folder: folder.url)
        }
        processor = try ImageProcessor(folder: folder)
        model = try CLIPModel(folder: folder, dtype: settings.dtype, device: settings.device)
        let configuration = folder.url.appendingPathComponent("config.json").path
        let vision = model.configuration.vision
        let text = model.configuration.text
        try processor.validate(imageSize: vision.imageSize, of: configuration)
        let tokenizer = try CLIPTokenizer(folder: folder.url, maxLength: text.contextLength)
        guard tokenizer.vocabularySize == text.vocabularySize else {
            throw ModelError(
                "\(folder.url.path): its tokenizer has \(tokenizer.vocabularySize) tokens, vocab_size of \(configuration) is "
                    + "\(text.vocabularySize): it is another model's, or cut short")
        }
        guard model.isEnd(tokenizer.endOfTextID) else {
            throw ModelError(
                "\(configuration): eos_token_id is not \(tokenizer.endOfTextID), with which the folder's tokenizer ends a text")
        }
        cosines = CLIPCosines(model, tokenizer, log: settings.log)
    }

    /// Returns the cosine of each image and its prompt, float32 [n].
    /// - Throws: `TensorError` if an operation failed.
    package func cosines(_ images: BorrowedImages, prompts: [String]) throws -> Tensor {
        try cosines(images.input(processor), prompts: prompts)
    }
}
