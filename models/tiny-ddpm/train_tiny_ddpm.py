"""Trains tiny-ddpm: an unconditional pixel-space DDPM in the layout of google/ddpm-cifar10-32, small enough for two CPU cores.

    python models/tiny-ddpm/train_tiny_ddpm.py --out tiny-ddpm

Data: Fashion-MNIST (Debian package dataset-fashion-mnist, MIT licence), gray, 28x28 padded to 32x32. The ten classes are equally frequent.
Needs torch, diffusers, numpy.
"""
import argparse
import gzip
import time

import numpy as np
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

DATA = "/usr/share/datasets/fashion-mnist/"


def pictures():
    """Gray pictures [n, 1, 32, 32] in [-1, 1]."""
    x = np.frombuffer(gzip.open(f"{DATA}train-images-idx3-ubyte.gz").read(), np.uint8, offset=16).reshape(-1, 28, 28)
    return torch.from_numpy(np.pad(x, ((0, 0), (2, 2), (2, 2)))).float()[:, None] / 127.5 - 1


def train(steps, batch, seed):
    torch.manual_seed(seed)
    x, g = pictures(), torch.Generator().manual_seed(seed)
    unet = UNet2DModel(
        sample_size=32, in_channels=1, out_channels=1, block_out_channels=(16, 32, 64), norm_num_groups=16, layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        downsample_padding=0, flip_sin_to_cos=False, freq_shift=1, norm_eps=1e-6, attention_head_dim=None)
    scheduler = DDPMScheduler(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, beta_schedule="linear", clip_sample=True)
    parameters = list(unet.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=1e-4)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps, pct_start=0.05)
    average = [p.detach().clone() for p in parameters]
    print(sum(p.numel() for p in parameters), "parameters", flush=True)
    start, losses = time.time(), []
    for step in range(steps):
        image = x[torch.randint(0, len(x), (batch,), generator=g)]
        flip = torch.rand(batch, 1, 1, 1, generator=g) < 0.5
        image = torch.where(flip, image.flip(3), image)
        t, noise = torch.randint(0, 1000, (batch,), generator=g), torch.randn(image.shape, generator=g)
        with torch.autocast("cpu", torch.bfloat16):
            out = unet(scheduler.add_noise(image, noise, t), t).sample
        loss = ((out.float() - noise) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        rate.step()
        decay = min(0.999, (step + 1) / (step + 10))
        with torch.no_grad():
            torch._foreach_mul_(average, decay)
            torch._foreach_add_(average, [p.detach() for p in parameters], alpha=1 - decay)
        losses.append(loss.item())
        if step % 250 == 249:
            print(f"step {step + 1} of {steps}  loss {np.mean(losses[-250:]):.4f}  {time.time() - start:.0f} s", flush=True)
    with torch.no_grad():
        for p, a in zip(parameters, average):
            p.copy_(a)
    return DDPMPipeline(unet=unet.eval(), scheduler=scheduler)


if __name__ == "__main__":
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--out", default="tiny-ddpm")
    ap.add_argument("--steps", type=int, default=6000)
    ap.add_argument("--batch", type=int, default=64)
    ap.add_argument("--seed", type=int, default=0)
    ap.add_argument("--threads", type=int, default=2)
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    train(a.steps, a.batch, a.seed).to(torch.float16).save_pretrained(a.out)
