import Foundation

/// The parts of a pipeline's folder, such as stable-diffusion-v1-5: those that its model_index.json names or,
/// without one, those that lie there.
package struct PipelineFolder {
    /// The denoising network.
    package let unet: ModelFolder
    /// The noise schedule.
    package let scheduler: ModelFolder
    /// Absent from models in pixel space.
    package let vae: ModelFolder?
    /// Absent from models without text, as is the tokenizer.
    package let textEncoder: ModelFolder?
    /// The tokenizer's folder.
    package let tokenizer: URL?

    private static let pipelines = [
        "StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline", "DDPMPipeline", "DDIMPipeline", "PNDMPipeline",
    ]
    private static let classes = [
        "unet": ["UNet2DConditionModel", "UNet2DModel"], "scheduler": DDIMScheduler.classes, "vae": ["AutoencoderKL"],
        "text_encoder": ["CLIPTextModel", "CLIPTextModelWithProjection"], "tokenizer": ["CLIPTokenizer", "CLIPTokenizerFast"],
    ]
    /// Parts that do not change what is drawn from a prompt.
    private static let unused = ["safety_checker", "feature_extractor", "image_encoder"]

    /// Finds the parts. Single-network repositories keep the U-Net's and the scheduler's files at the top.
    /// - Throws: `ModelError` that names a part that is missing or not supported.
    package init(_ root: ModelFolder) throws {
        func url(_ name: String) -> URL { root.url.appendingPathComponent(name) }
        func exists(_ url: URL) -> Bool { FileManager.default.fileExists(atPath: url.path) }
        let index = exists(url("model_index.json")) ? try root.object("model_index.json") : nil
        let parts = try index.map { try Self.parts($0, root) } ?? Self.classes.keys.filter { exists(url($0)) }
        func part(_ name: String) throws -> ModelFolder? { parts.contains(name) ? try ModelFolder(url(name)) : nil }

        if let unet = try part("unet") {
            self.unet = unet
        } else if index == nil, exists(url("config.json")) {
            let above = root.url.deletingLastPathComponent()
            if exists(above.appendingPathComponent("model_index.json")) {
                throw ModelError("\(root.url.path): one part of a pipeline; name the folder above it, \(above.path)")
            }
            unet = root
        } else {
            throw ModelError("\(root.url.path): no pipeline in diffusers layout: it has no unet; it holds \(root.content)")
        }
        guard let scheduler = try part("scheduler") ?? (exists(url("scheduler_config.json")) ? root : nil) else {
            throw ModelError("\(root.url.path): it has no scheduler/scheduler_config.json; download the folder again")
        }
        self.scheduler = scheduler
        vae = try part("vae")
        textEncoder = try part("text_encoder")
        tokenizer = try part("tokenizer")?.url
    }

    /// Returns the names of the parts that a model_index.json names.
    private static func parts(_ index: [String: JSONValue], _ root: ModelFolder) throws -> [String] {
        let file = root.url.appendingPathComponent("model_index.json").path
        if let name = index["_class_name"], !pipelines.contains(name.text ?? "") {
            throw ModelError("\(file): pipeline \(name) is not supported (\(pipelines.joined(separator: ", ")) are)")
        }
        // A part is a pair of library and class, both null if it is left out. Other values are settings.
        return try index.sorted { $0.key < $1.key }.compactMap { name, value in
            guard !name.hasPrefix("_"), !unused.contains(name), case .list(let pair) = value, pair.count == 2, pair[1] != .null else {
                return nil
            }
            guard let classes = classes[name], classes.contains(pair[1].text ?? "") else {
                throw ModelError("\(file): part '\(name)' of class \(pair[1]) is not supported")
            }
            guard FileManager.default.fileExists(atPath: root.url.appendingPathComponent(name).path) else {
                throw ModelError("\(root.url.path): no folder '\(name)', but model_index.json names it; download the folder again")
            }
            return name
        }
    }
}
