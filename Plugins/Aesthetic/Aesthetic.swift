import CDAGCore
import Foundation
import Models
import NN
import RewardKit
import Tensors

/// The LAION aesthetic score, version 2: a linear head on the length-normalised image embedding of CLIP ViT-L/14.
/// Source: christophschuhmann/improved-aesthetic-predictor.
final class Aesthetic: NeuralReward {
    static let card = RewardCard(
        name: "aesthetic", version: "1.0.0", description: "how much people like the look of a picture, by LAION's predictor",
        license: "Apache-2.0 AND MIT", source: "https://github.com/christophschuhmann/improved-aesthetic-predictor",
        objectives: [("aesthetic", "predicted rating, about 1 to 10")],
        weights: "sac+logos+ava1-l14-linearMSE.pth, from the repository above",
        options: [("clip", "", "folder of openai/clip-vit-large-patch14 from Hugging Face: config.json and model.safetensors")])

    private let clip: CLIPVisionModel
    private let layers: [Linear]
    private let device: Device

    init(_ settings: NeuralSettings) throws {
        let head = try settings.file("weights", Self.card.weights)
        let folder = try settings.file("clip", Self.card.options[0].description)
        device = settings.device
        let store = ParameterStore(checkpoint: try TensorFile.read(head), origin: head.path, dtype: .float32, device: device)
        clip = try CLIPVisionModel(folder: ModelFolder(folder), dtype: settings.dtype, device: device)
        // torch.nn.Sequential with dropout at 1, 3 and 5.
        let widths = [clip.embeddingSize, 1024, 128, 64, 16, 1]
        layers = zip([0, 2, 4, 6, 7], zip(widths, widths.dropFirst())).map { place, sizes in
            Linear(sizes.0, sizes.1, store.root / "layers" / place)
        }
        try store.finish()
    }

    func score(_ pictures: Pictures, prompts: [String]) throws -> [Float] {
        let embedding = try clip(pictures.clipInput(size: clip.imageSize).to(device))
        let unit = embedding / embedding.square().sum([-1], keepDims: true).sqrt()
        return try layers.reduce(unit) { $1($0) }.reshape([-1]).array()
    }
}

/// What `dag_reward.h` asks of a plugin.
@_cdecl("dag_reward_entry")
public func entry(
    _ host: UnsafePointer<dag_reward_host>, _ plugin: UnsafeMutablePointer<UnsafePointer<dag_reward_plugin>?>,
    _ error: UnsafeMutablePointer<dag_reward_error>
) -> Int32 { rewardEntry(Aesthetic.self, host, plugin, error) }
