import Images
import Models
import NN
import Tensors

/// The text of a batch: embeddings of its prompts and of the empty prompt.
package struct Conditioning {
    /// [B, L, D].
    package let prompts: Tensor
    /// [1, L, D], for classifier-free guidance.
    package let empty: Tensor

    /// Returns the conditioning of chosen samples, in this order.
    package func rows(_ indices: [Int]) -> Conditioning { Conditioning(prompts: prompts.rows(indices), empty: empty) }
}

/// A pretrained diffusion model: text encoder, denoising network with adapters, decoder.
package protocol DiffusionModel: AnyObject {
    /// The device on which everything is computed.
    var device: Device { get }
    /// The type that the denoising network computes in.
    var dtype: DType { get }
    /// [C, H, W] of a sample: a latent, or an image in pixel space.
    var sampleShape: [Int] { get }
    /// Height and width of an image, pixels.
    var imageSize: (height: Int, width: Int) { get }
    /// Width of the text embedding; nil for a model without text.
    var textWidth: Int? { get }
    /// The tokenizer before the text encoder; nil for a model without text.
    var tokenizer: CLIPTokenizer? { get }
    /// Channels of the denoising network's blocks, from the outermost; the state flow is no wider.
    var channels: [Int] { get }
    /// Linear layers and convolutions of the denoising network by their keys, to which adapters attach.
    var layers: [String: any AdaptableLayer] { get }
    /// Numbers of network rows and decoded images so far, those of `decodePrediction` by a decoder of its own
    /// apart: the cost of a run.
    var work: (networkRows: Int, decodes: Int, predictionDecodes: Int) { get }

    /// Makes the chain of this model's noise schedule.
    /// - Parameters:
    ///   - steps: denoising steps.
    ///   - eta: scale of the sampling noise; 1 is the DDPM chain.
    /// - Throws: `ModelError` if the schedule has no such chain.
    func kernel(steps: Int, eta: Double, reduction: LogProbabilityReduction) throws -> any TransitionKernel
    /// Embeds prompts; nil for a model without text.
    /// - Throws: `NotFiniteError`, `TensorError`; `ModelError` or `TensorFileError` if the text encoder cannot be
    ///   loaded again.
    func encode(_ prompts: [String]) throws -> Conditioning?
    /// Frees the memory of the text encoder, which the next `encode` loads again.
    func releaseTextEncoder()
    /// Evaluates the network under classifier-free guidance (Ho and Salimans 2022), float32:
    /// guided = eps(empty) + w (eps(prompt) - eps(empty)).
    /// - Parameters:
    ///   - x: [n, C, H, W].
    ///   - times: int64 [n].
    ///   - guidance: w; 1 needs no second row.
    /// - Returns: the guided output and the conditional one alone, [n, C, H, W] each.
    func denoise(_ x: Tensor, times: Tensor, _ conditioning: Conditioning?, guidance: Double) -> (guided: Tensor, conditional: Tensor)
    /// Decodes samples [n, C, H, W] to 8-bit RGB: images that are shown, or whose score is a trajectory's.
    /// - Throws: `NotFiniteError`, `TensorError`.
    func decode(_ x: Tensor) throws -> ImageBatch
    /// Decodes predicted data [n, C, H, W] to 8-bit RGB, with a cheaper decoder where the run has one.
    /// - Throws: `NotFiniteError`, `TensorError`.
    func decodePrediction(_ x: Tensor) throws -> ImageBatch
    /// Computes with the pretrained weights alone, the adapters switched off.
    func withoutAdapters<Result>(_ body: () throws -> Result) rethrows -> Result
    /// Copies the encoder of the denoising network: see `DenoisingNetwork.copiedEncoder`.
    func copiedEncoder() throws -> (network: UNetEncoder, parameters: [String: Tensor])?
}

extension DiffusionModel {
    /// Network rows of one guided evaluation of one sample.
    func rowsPerSample(guidance: Double) -> Int { textWidth != nil && guidance != 1 ? 2 : 1 }
}
