import Tensors

/// The half of an autoencoder that makes images of latents.
package protocol LatentDecoder {
    /// The channels of a latent.
    var latentChannels: Int { get }
    /// The ratio of an image's height and width to those of its latent.
    var scale: Int { get }
    /// Returns images, float32 [B, 3, H, W], nominally in [-1, 1].
    /// - Parameter latents: scaled latents of the diffusion model, [B, latentChannels, H/scale, W/scale].
    func decode(_ latents: Tensor) -> Tensor
}
