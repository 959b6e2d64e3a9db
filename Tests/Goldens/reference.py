"""The mathematics of DAG and DDPO in Python: state flow, kernels, losses. Written for clarity: it is what the goldens test against."""
import math

import numpy as np
import torch
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.unets.unet_2d_blocks import get_down_block

WIDTHS = (64, 128, 256, 256)


class Flow(torch.nn.Module):
    """f_phi(x_t, t, e(c)): the down half of a small conditional U-Net, average-pooled, and a linear layer to one scalar.

    WIDTHS is cut to max(1, floor(log2(sample_size)) - 1) blocks where sample_size < 64. Blocks attend to the text, but for the
    last of four; without a text (`text_width` None) none does.
    """

    def __init__(self, channels, sample_size, text_width):
        super().__init__()
        widths = WIDTHS if sample_size >= 64 else WIDTHS[:max(1, int(math.log2(sample_size)) - 1)]
        self.time_proj, self.time_embedding = Timesteps(64, flip_sin_to_cos=True, downscale_freq_shift=0), TimestepEmbedding(64, 256)
        self.conv_in = torch.nn.Conv2d(channels, widths[0], 3, padding=1)
        self.down_blocks = torch.nn.ModuleList()
        for k, width in enumerate(widths):
            plain = text_width is None or k == len(WIDTHS) - 1
            self.down_blocks.append(get_down_block(
                "DownBlock2D" if plain else "CrossAttnDownBlock2D", num_layers=1, in_channels=widths[max(k - 1, 0)], out_channels=width,
                temb_channels=256, add_downsample=True, resnet_eps=1e-5, resnet_act_fn="silu", resnet_groups=32, attention_head_dim=8,
                cross_attention_dim=text_width, num_attention_heads=8, downsample_padding=1))
        self.linear_out = torch.nn.Linear(widths[-1], 1)

    def forward(self, x, t, text=None):
        temb, x = self.time_embedding(self.time_proj(t).to(x.dtype)), self.conv_in(x)
        for block in self.down_blocks:
            attends = hasattr(block, "attentions")
            x, _ = block(x, temb, encoder_hidden_states=text) if attends else block(x, temb)
        return self.linear_out(x.mean((2, 3))).squeeze(-1)


def formula_weights(module):
    """Fill a module with weights that any language can recompute, so that none need be stored.

    For element k (row-major) of the parameter with index i among the sorted names, in 32-bit unsigned arithmetic:
        h = k + 0x9E3779B9 * (i + 1);  h ^= h >> 16;  h *= 0x7FEB352D;  h ^= h >> 15;  h *= 0x846CA68B;  h ^= h >> 16
        u = 2 * h / 2^32 - 1                                                        (float64)
    and the value, rounded to float32 at the end, is
        u * sqrt(3 / fan_in)  for parameters of two or more dimensions, fan_in = count / shape[0]
        1 + 0.1 * u           for one-dimensional ones named *.weight (norms)
        0.1 * u               for biases
    """
    for i, (name, parameter) in enumerate(sorted(module.named_parameters())):
        h = np.arange(parameter.numel(), dtype=np.uint32) + np.uint32(0x9E3779B9 * (i + 1) % 2**32)
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
            h = (h ^ (h >> np.uint32(shift))) * np.uint32(factor)
        u = 2 * (h ^ (h >> np.uint32(16))).astype(np.float64) / 2**32 - 1
        if parameter.ndim > 1:
            value = u * math.sqrt(3 * parameter.shape[0] / parameter.numel())
        else:
            value = 0.1 * u + (1 if name.endswith(".weight") else 0)
        parameter.data = torch.from_numpy(value.astype(np.float32)).reshape(parameter.shape)
    return module


def column(v):
    return v[:, None, None, None]


def gaussian(x, mean, std):
    """log Normal(x; mean, std^2 I), mean over all dimensions but the first."""
    return (-((x - mean) ** 2) / (2 * std**2) - std.log() - 0.5 * math.log(2 * math.pi)).mean((1, 2, 3))


def forward_kernel(eps, x, now, after, eta=1.0):
    """Mean and standard deviation of P_F(x_t' | x_t) for epsilon prediction; `now`, `after`: abar at t and at t'."""
    now, after = column(now), column(after)
    x0 = (x - (1 - now).sqrt() * eps) / now.sqrt()
    std = eta * ((1 - after) / (1 - now) * (1 - now / after)).sqrt()
    return after.sqrt() * x0 + (1 - after - std**2).clamp(min=0).sqrt() * eps, std


def log_pf(eps, x, following, now, after):
    return gaussian(following, *forward_kernel(eps, x, now, after))


def log_pb(x, following, now, after):
    """log P_B(x_t | x_t')."""
    a = column(now / after)
    return gaussian(x, a.sqrt() * following, (1 - a).sqrt())


def guided(unet, x, t, text, empty, scale=5.0):
    """Classifier-free guidance, one U-Net call with the unconditional half first."""
    both = torch.cat([empty.expand(len(x), -1, -1), text])
    unconditional, conditional = unet(torch.cat([x, x]), torch.cat([t, t]), both).sample.chunk(2)
    return unconditional + scale * (conditional - unconditional)


def leave_one_out(r):
    """r minus the mean of the others, over the standard deviation of the others: `std_form` in train/train.json says it exactly."""
    base = (r.sum() - r) / (len(r) - 1)
    square = (r - base) ** 2
    std = ((square.sum() - square) / (len(r) - 1)).sqrt()
    return ((r - base) / (std + 1e-8)).clamp(-5, 5)


def clipped_surrogate(advantage, ratio, clip):
    return torch.maximum(-advantage * ratio, -advantage * ratio.clamp(1 - clip, 1 + clip))
