import Foundation
import NN
import Tensors

/// transformers' CLIPTextModel: the text encoder of Stable Diffusion 1.x and 2.x.
package final class CLIPTextModel {
    private struct File: Decodable { let architectures: [String]? }

    /// The number of tokens of a prompt, padding included.
    package let maxLength: Int
    /// The width of the embedding.
    package let hiddenSize: Int
    private let tower: CLIPTextTower

    /// Loads configuration and weights, frozen and in float32, from a folder in diffusers layout.
    /// - Throws: `ModelError` or `TensorFileError` that names the file.
    package init(folder: ModelFolder, device: Device = .cpu) throws {
        let file = folder.url.appendingPathComponent("config.json").path
        if try folder.object()["text_config"] != nil {
            throw ModelError("\(file): the configuration of a whole CLIP (text_config); save its text model alone: CLIPTextModel")
        }
        let c = try folder.decode(CLIPTextConfiguration.self)
        if let architecture = try folder.decode(File.self).architectures?.first,
            !["CLIPTextModel", "CLIPTextModelWithProjection"].contains(architecture)
        {
            throw ModelError("\(file): text encoder '\(architecture)' is not supported (CLIPTextModel is)")
        }
        let activation = try c.validate(file)
        // Transformers 5 writes the keys without the prefix, earlier versions with it.
        let store = try folder.parameters(dtype: .float32, device: device) {
            $0.hasPrefix("text_model.") ? String($0.dropFirst("text_model.".count)) : $0
        }
        tower = CLIPTextTower(c.sizes, eps: c.eps, activation, store.root)
        maxLength = c.sizes.contextLength
        hiddenSize = c.sizes.width
        try store.finish { $0.hasSuffix("position_ids") || $0 == "text_projection.weight" }
    }

    /// Returns the last hidden state after the final norm, float32 [B, L, hiddenSize].
    /// - Parameter ids: token ids, B lists of equal length L of at most `maxLength`.
    /// - Throws: `ModelError` if lengths or ids do not fit.
    package func callAsFunction(_ ids: [[Int]]) throws -> Tensor { try tower(ids) }
}
