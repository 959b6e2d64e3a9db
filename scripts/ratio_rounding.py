#!/usr/bin/env python3
"""Measures how far rounding moves log rho, the importance ratio of a transition, by the network's precision.

    .venv/bin/python scripts/ratio_rounding.py [--steps 20] [--guidance 5] [--size 8]

The same measure as the self-check of dag-train, on diffusers' U-Net with peft's adapters: a small move of the
adapters and its opposite change log rho by a and -a to first order, so that their sum is rounding.
"""
import argparse
import copy

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from peft import LoraConfig

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", default="models/tiny-sd")
parser.add_argument("--steps", type=int, default=20)
parser.add_argument("--guidance", type=float, default=5)
parser.add_argument("--size", type=int, help="height and width of the latents; default: the model's")
parser.add_argument("--samples", type=int, default=16)
options = parser.parse_args()
torch.set_num_threads(1)
torch.manual_seed(0)

pipeline = StableDiffusionPipeline.from_pretrained(options.model, safety_checker=None)
scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
scheduler.set_timesteps(options.steps)
count, size = options.samples, options.size or pipeline.unet.config.sample_size


def embed(prompts):
    tokenizer = pipeline.tokenizer
    ids = tokenizer(prompts, padding="max_length", max_length=tokenizer.model_max_length, return_tensors="pt").input_ids
    return pipeline.text_encoder(ids)[0]


with torch.no_grad():
    prompts = ["a boot on a blue background", "a tee on a red background"] * (count // 2)
    text = torch.cat([embed([""] * len(prompts)), embed(prompts)])
count = len(prompts)
pipeline.unet.add_adapter(LoraConfig(
    r=4, lora_alpha=4, init_lora_weights="gaussian", target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
up = {name: weight for name, weight in pipeline.unet.named_parameters() if "lora_B" in name}
start = {name: torch.randn(weight.shape) * 1e-3 for name, weight in up.items()}
move = {name: torch.randn(weight.shape) * 3e-5 for name, weight in up.items()}


class Network:
    """The U-Net in a precision, guided."""

    def __init__(self, dtype, output_dtype=None, autocast=False):
        self.unet = copy.deepcopy(pipeline.unet).to(dtype)
        self.dtype, self.autocast = dtype, autocast
        self.up = {name: weight for name, weight in self.unet.named_parameters() if "lora_B" in name}
        if output_dtype:
            self.unet.conv_norm_out.to(output_dtype)
            self.unet.conv_out.to(output_dtype)
            self.unet.conv_norm_out.register_forward_pre_hook(lambda _, inputs: (inputs[0].to(output_dtype),))

    def set(self, sign):
        for name, weight in self.up.items():
            weight.data.copy_(start[name] + sign * move[name])

    def __call__(self, x, t):
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            output = self.unet(torch.cat([x, x]).to(self.dtype), t, text.to(self.dtype)).sample.float()
        empty, conditional = output.chunk(2)
        return empty + (conditional - empty) * options.guidance


def step(output, x, t):
    """Mean and deviation of DDIM's step with eta 1."""
    before = t - scheduler.config.num_train_timesteps // options.steps
    alpha = scheduler.alphas_cumprod[t]
    after = scheduler.alphas_cumprod[before] if before >= 0 else scheduler.final_alpha_cumprod
    variance = (1 - after) / (1 - alpha) * (1 - alpha / after)
    x0 = (x - (1 - alpha).sqrt() * output) / alpha.sqrt()
    return after.sqrt() * x0 + (1 - after - variance).clamp(min=0).sqrt() * output, variance.sqrt()


def log_probability(x, mean, deviation):
    return (-0.5 * ((x - mean) / deviation) ** 2).flatten(1).mean(1)


networks = {
    "fp32": lambda: Network(torch.float32),
    "fp16": lambda: Network(torch.float16),
    "bf16": lambda: Network(torch.bfloat16),
    "bf16, output layer in fp32": lambda: Network(torch.bfloat16, output_dtype=torch.float32),
    "bf16 by autocast": lambda: Network(torch.float32, autocast=True),
}
print(f"log rho over {options.steps} steps, guidance {options.guidance:g}, latents {size} x {size}: root mean square, largest")
with torch.no_grad():
    for name, make in networks.items():
        network, generator = make(), torch.Generator().manual_seed(1)
        x = torch.randn(count, pipeline.unet.config.in_channels, size, size, generator=generator)
        transitions = []
        network.set(0)
        for t in scheduler.timesteps.tolist():
            mean, deviation = step(network(x, t), x, t)
            if deviation < 1e-6:
                break
            after = mean + deviation * torch.randn(x.shape, generator=generator)
            transitions.append((x, t, after, log_probability(after, mean, deviation)))
            x = after
        changes = []
        for sign in (1, -1):
            network.set(sign)
            changes.append(torch.stack(
                [log_probability(after, *step(network(x, t), x, t)) - before for x, t, after, before in transitions]))
        # The sum has the rounding of both and twice that of the rollout: 6 variances, of which a ratio has 2.
        rounding = (changes[0] + changes[1]) / 3**0.5
        print(f"{name:27} {rounding.square().mean().sqrt():.1e}  {rounding.abs().max():.1e}", flush=True)
