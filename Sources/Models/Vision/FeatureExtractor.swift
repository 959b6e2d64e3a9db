import Foundation
import Tensors

/// Features by which papers compare sets of images: CLIP's image embedding or DINOv2's class token, from a folder
/// as transformers saves the model, with the preprocessing that lies beside it.
package struct FeatureExtractor {
    private enum Network {
        case clip(CLIPVisionModel)
        case dinov2(DINOv2Model)
    }

    /// The model, for people, such as
    /// `DINOv2 in /models/dinov2-base, a ViT of 12 layers, 768 wide, patches of 14 in 518, on images of 224`.
    package let summary: String
    private let network: Network
    private let processor: ImageProcessor
    private let device: Device

    private struct File: Decodable {
        let modelType: String?
    }

    /// Loads the network, frozen, in float32.
    /// - Throws: `ModelError` or `TensorFileError` that names the file.
    package init(folder: ModelFolder, device: Device) throws {
        let name = folder.url.appendingPathComponent("config.json").path
        let file = try folder.decode(File.self)
        processor = try ImageProcessor(folder: folder)
        self.device = device
        switch file.modelType {
        case "clip", "clip_vision_model":
            let model = try CLIPVisionModel(folder: folder, device: device)
            try processor.validate(imageSize: model.imageSize, of: name)
            network = .clip(model)
            summary = "CLIP in \(folder.url.path), a \(model.sizes), on images of \(processor.cropSize)"
        case "dinov2":
            let model = try DINOv2Model(folder: folder, device: device)
            guard processor.cropSize >= model.sizes.patchSize else {
                throw ModelError(
                    "\(processor.file.path): makes images of \(processor.cropSize) pixels, less than patch_size of \(name) "
                        + "(\(model.sizes.patchSize))")
            }
            network = .dinov2(model)
            summary = "DINOv2 in \(folder.url.path), a \(model.sizes), on images of \(processor.cropSize)"
        default:
            let found = file.modelType.map { "'\($0)'" } ?? "missing"
            throw ModelError("\(name): model_type is \(found); features are those of CLIP (clip, clip_vision_model) or DINOv2 (dinov2)")
        }
    }

    /// Returns the features of each image, not normalised: float32 [n, size].
    /// - Throws: `TensorError` if an operation failed.
    package func callAsFunction(_ images: BorrowedImages) throws -> Tensor {
        let input = images.input(processor).to(device)
        let features =
            try withoutGradients {
                switch network {
                case .clip(let model): try model(input)
                case .dinov2(let model): try model(input)
                }
            }
        try TensorError.check()
        return features
    }
}
