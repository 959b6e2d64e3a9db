import Foundation
import Images
import Models
import NN
import Tensors

/// A folder in diffusers layout: text encoder, U-Net, autoencoder and scheduler.
///
/// Text encoder and autoencoder are absent from pixel-space models without text (DDPM).
package final class DiffusionPipeline: DiffusionModel {
    /// The denoising network.
    package let unet: any DenoisingNetwork
    /// The noise schedule.
    package let scheduler: DDIMScheduler
    /// The device on which everything is computed.
    package let device: Device
    /// [C, H, W] of a sample: a latent, or an image in pixel space.
    package let sampleShape: [Int]
    /// Height and width of an image, pixels.
    package var imageSize: (height: Int, width: Int) {
        let scale = vae?.scale ?? 1
        return (sampleShape[1] * scale, sampleShape[2] * scale)
    }
    /// Width of the text embedding; nil without text.
    package var textWidth: Int? { unet.textWidth }
    /// Channels of the U-Net's blocks.
    package var channels: [Int] { unet.channels }
    /// Linear layers and convolutions of the U-Net by their keys.
    package var layers: [String: any AdaptableLayer] { unet.layers }
    /// The type that the U-Net computes in.
    package var dtype: DType { unet.dtype }
    /// Numbers of U-Net rows and decoded images so far: see `DiffusionModel.work`.
    package private(set) var work = (networkRows: 0, decodes: 0, predictionDecodes: 0)

    /// Lines about choices between several files of weights.
    package let notes: [String]

    /// Decodes predicted data; nil: `vae` does.
    private let predictionDecoder: AutoencoderTiny?
    private let vae: AutoencoderKL?
    private let textEncoderFolder: ModelFolder?
    /// nil for a model without text, and from `releaseTextEncoder` to the next `encode`.
    private var textEncoder: CLIPTextModel?
    /// The tokenizer before the text encoder; nil for a model without text.
    package let tokenizer: CLIPTokenizer?

    /// Loads a folder such as stable-diffusion-v1-5 or ddpm-cifar10-32.
    /// - Parameters:
    ///   - predictionDecoder: the folder of an AutoencoderTiny that decodes predicted data; nil: the model's own
    ///     autoencoder does.
    ///   - height: that of the images in pixels; 0: the model's.
    ///   - width: likewise.
    /// - Throws: `ModelError`, `TensorFileError` or `TokenizerError` if a part is missing or does not fit,
    ///   `ConfigurationError` if the decoder is not for this model's latents or the size not for its networks.
    package init(
        folder: String, predictionDecoder: String? = nil, height: Int = 0, width: Int = 0, dtype: DType, device: Device
    ) throws {
        let parts = try PipelineFolder(ModelFolder(URL(fileURLWithPath: folder)))
        let tiny = try predictionDecoder.map { try ModelFolder(URL(fileURLWithPath: $0)) }
        notes = [parts.unet, parts.textEncoder, parts.vae, tiny].compactMap { $0?.choice }
        let unet = try UNet(folder: parts.unet, dtype: dtype, device: device)
        self.unet = unet
        self.device = device
        let c = unet.configuration
        guard c.outChannels == c.inChannels else {
            throw ModelError(
                "\(folder): the U-Net takes \(c.inChannels) channels and gives \(c.outChannels); "
                    + "models that predict a variance, too, or are given an image are not supported")
        }
        let samples: DDIMScheduler.Samples = parts.vae == nil ? .pixels : c.isConditional ? .stableDiffusion : .latents
        scheduler = try DDIMScheduler(folder: parts.scheduler, samples: samples)
        if c.isConditional {
            guard let encoder = parts.textEncoder, let folderOfTokenizer = parts.tokenizer else {
                throw ModelError("\(folder): the U-Net takes text, but there is no text_encoder or tokenizer; download the folder again")
            }
            textEncoderFolder = encoder
            textEncoder = try CLIPTextModel(folder: encoder, device: device)
            tokenizer = try CLIPTokenizer(folder: folderOfTokenizer)
        } else {
            textEncoderFolder = nil
            tokenizer = nil
        }
        if let textEncoder, textEncoder.hiddenSize != c.crossAttentionDim {
            throw ModelError(
                """
                \(folder): the text encoder is \(textEncoder.hiddenSize) wide, the U-Net's cross-attention \
                \(c.crossAttentionDim ?? 0); the parts are of different models
                """)
        }
        vae = try parts.vae.map { try AutoencoderKL(folder: $0, dtype: dtype, device: device) }
        if let vae {
            guard vae.latentChannels == c.inChannels else {
                throw ModelError(
                    """
                    \(folder): the U-Net takes \(c.inChannels) channels, the autoencoder has \(vae.latentChannels); \
                    inpainting models are not supported
                    """)
            }
            guard vae.shiftFactor == 0 else {
                throw ModelError("\(folder)/vae/config.json: shift_factor \(vae.shiftFactor) is not supported, only null")
            }
        } else if ![1, 3].contains(c.inChannels) {
            throw ModelError(
                "\(folder): the U-Net's samples have \(c.inChannels) channels, so they are latents, but there is no vae; "
                    + "download the folder again")
        }
        self.predictionDecoder = try tiny.map { try AutoencoderTiny(folder: $0, dtype: dtype, device: device) }
        try self.predictionDecoder?.validate(beside: vae, of: folder)
        guard let size = c.sampleSize else { throw ModelError("\(folder): the U-Net's config.json has no sample_size") }
        let (pixels, halvings) = (vae?.scale ?? 1, unet.channels.count - 1)
        func side(_ key: String, _ chosen: Int, _ own: Int) throws -> Int {
            let unit = pixels << halvings
            guard chosen % unit == 0 else {
                throw ConfigurationError("\(setting: key) \(chosen): \(folder) makes images whose sides are multiples of \(unit)")
            }
            return chosen == 0 ? own : chosen / pixels
        }
        sampleShape = [c.inChannels, try side("height", height, size[0]), try side("width", width, size[1])]
    }

    /// Makes a pipeline without text encoder and autoencoder: samples are images.
    package init(unet: any DenoisingNetwork, scheduler: DDIMScheduler, sampleShape: [Int], device: Device = .cpu) {
        self.unet = unet
        self.scheduler = scheduler
        self.sampleShape = sampleShape
        self.device = device
        notes = []
        predictionDecoder = nil
        vae = nil
        textEncoderFolder = nil
        tokenizer = nil
    }

    /// Makes the DDIM chain of the model's schedule.
    /// - Throws: `ConfigurationError` if the schedule has fewer steps, `ModelError`.
    package func kernel(steps: Int, eta: Double, reduction: LogProbabilityReduction) throws -> any TransitionKernel {
        let most = scheduler.alphasCumprod.count
        guard (1...most).contains(steps) else {
            throw ConfigurationError("\(setting: "steps") must be from 1 to \(most), not \(steps)")
        }
        return try DDIMKernel(scheduler: scheduler, steps: steps, eta: eta, reduction: reduction, device: device)
    }

    /// Embeds prompts, each once; nil for a model without text. Loads the text encoder if it was released.
    /// - Throws: `NotFiniteError`, `TensorError`; `ModelError` or `TensorFileError` if it can no longer be loaded.
    package func encode(_ prompts: [String]) throws -> Conditioning? {
        guard let textEncoderFolder, let tokenizer else { return nil }
        let textEncoder = try textEncoder ?? CLIPTextModel(folder: textEncoderFolder, device: device)
        self.textEncoder = textEncoder
        return try withoutGradients {
            let unique = Array(Set(prompts)).sorted()
            let places = Dictionary(uniqueKeysWithValues: zip(unique, 0...))
            let embedded = try stride(from: 0, to: unique.count, by: 64).map { start in
                try textEncoder(unique[start..<min(start + 64, unique.count)].map { tokenizer.encode($0) })
            }
            let rows = Tensor.cat(embedded, 0).rows(prompts.map { places[$0]! }).to(unet.dtype)
            let empty = try textEncoder([tokenizer.encode("")]).to(unet.dtype)
            guard try rows.isFinite(), try empty.isFinite() else {
                throw NotFiniteError("the text encoder's embeddings are not finite: its weights are damaged; download text_encoder/ again")
            }
            return Conditioning(prompts: rows, empty: empty)
        }
    }

    /// Frees the text encoder until the next `encode`.
    package func releaseTextEncoder() { textEncoder = nil }

    /// Evaluates the U-Net on both rows of a sample in one batch: see `DiffusionModel.denoise`.
    package func denoise(
        _ x: Tensor, times: Tensor, _ conditioning: Conditioning?, guidance: Double
    ) -> (guided: Tensor, conditional: Tensor) {
        let n = x.size(0)
        guard let conditioning, guidance != 1 else {
            work.networkRows += n
            let output = unet(x, timesteps: times, context: conditioning?.prompts).to(.float32)
            return (output, output)
        }
        work.networkRows += 2 * n
        let empty = conditioning.empty.expand([n] + Array(conditioning.empty.shape.dropFirst()))
        let output = unet(
            Tensor.cat([x, x], 0), timesteps: Tensor.cat([times, times], 0), context: Tensor.cat([empty, conditioning.prompts], 0))
        let halves = output.to(.float32).chunk(2, 0)
        return (halves[0] + (halves[1] - halves[0]) * guidance, halves[1])
    }

    /// Computes with the pretrained weights alone, the adapters switched off.
    package func withoutAdapters<Result>(_ body: () throws -> Result) rethrows -> Result { try unet.withoutAdapters(body) }

    /// Copies the U-Net's encoder: see `DenoisingNetwork.copiedEncoder`.
    package func copiedEncoder() throws -> (network: UNetEncoder, parameters: [String: Tensor])? { try unet.copiedEncoder() }

    /// Decodes samples [n, C, H, W] to 8-bit RGB, with the model's own autoencoder.
    /// - Throws: `NotFiniteError`, `TensorError`.
    package func decode(_ x: Tensor) throws -> ImageBatch {
        work.decodes += x.size(0)
        return try images(of: x, by: vae)
    }

    /// Decodes predicted data [n, C, H, W] to 8-bit RGB, with the decoder for predictions where there is one.
    /// - Throws: `NotFiniteError`, `TensorError`.
    package func decodePrediction(_ x: Tensor) throws -> ImageBatch {
        guard let predictionDecoder else { return try decode(x) }
        work.predictionDecodes += x.size(0)
        return try images(of: x, by: predictionDecoder)
    }

    private func images(of x: Tensor, by decoder: (any LatentDecoder)?) throws -> ImageBatch {
        try withoutGradients {
            let images = decoder?.decode(x) ?? x
            // As bytes they would be black.
            guard try images.isFinite() else {
                throw NotFiniteError(
                    """
                    the decoded images are not finite\(try x.isFinite() ? ", though their latents are" : ""): \
                    lower \(setting: "learning_rate"), \(setting: "guidance_scale") or \(setting: "eta")
                    """)
            }
            let bytes = ((images / 2 + 0.5).clamp(0, 1) * 255).round().permute([0, 2, 3, 1]).contiguous()
            var pixels = bytes.to(.uint8)
            if pixels.size(3) == 1 { pixels = pixels.expand(Array(pixels.shape.dropLast()) + [3]).contiguous() }
            return try ImageBatch(pixels: pixels.array(), count: pixels.size(0), height: pixels.size(1), width: pixels.size(2))
        }
    }
}

extension AutoencoderTiny {
    /// Checks that this decoder fits the latents of a model.
    /// - Parameter vae: the model's own autoencoder.
    /// - Throws: `ConfigurationError`.
    fileprivate func validate(beside vae: AutoencoderKL?, of folder: String) throws {
        guard let vae else {
            throw ConfigurationError(
                "\(setting: "prediction_decoder") is for models with an autoencoder; the samples of \(folder) are images already")
        }
        guard latentChannels == vae.latentChannels, scale == vae.scale else {
            throw ConfigurationError(
                """
                \(setting: "prediction_decoder") decodes latents of \(latentChannels) channels to images \(scale) times as high, \
                but those of \(folder) have \(vae.latentChannels) channels, for images \(vae.scale) times as high: \
                name a decoder that was made for this model's autoencoder
                """)
        }
    }
}
