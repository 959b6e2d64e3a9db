"""The reference at full size: a Stable Diffusion 1.5 pipeline with random weights and what diffusers computes with it.

    python scripts/full_size_reference.py make DIR [--threads 1] [--seed 0]

DIR becomes a pipeline in diffusers layout (fp16 safetensors, real SD 1.5 configs, 2.1 GB) with, beside it,
    DIR/golden/unet.safetensors           sample [1,4,64,64], timestep [1], encoder_hidden_states [1,77,768] -> output
    DIR/golden/vae.safetensors            latents [1,4,64,64] -> image [1,3,512,512]
    DIR/golden/taesd.safetensors          the same latents -> image, by DIR/taesd, an AutoencoderTiny of the published shape
    DIR/golden/text_encoder.safetensors   input_ids [1,77] -> last_hidden_state [1,77,768]
    DIR/golden/measurements.json          seconds (the fastest of two calls) and peak memory of each component
Every component is measured in a process of its own, in float32 on the fp16-rounded weights. Inputs are random but have the
scale of real ones. The tokenizer knows bytes only: golden inputs are token ids.
"""
import argparse
import json
import os
import subprocess
import sys
import time

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

COMPONENTS = ("unet", "vae", "taesd", "text_encoder")


def tokenizer(folder):
    """A byte-level CLIP vocabulary without merges, with start and end of text at CLIP's own ids."""
    from tokenizers import pre_tokenizers
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = alphabet + [piece + "</w>" for piece in alphabet]
    vocabulary = {piece: k for k, piece in enumerate(pieces + [f"<|unused{k}|>" for k in range(49406 - len(pieces))])}
    vocabulary |= {"<|startoftext|>": 49406, "<|endoftext|>": 49407}
    os.makedirs(folder, exist_ok=True)
    json.dump(vocabulary, open(f"{folder}/vocab.json", "w"), ensure_ascii=False)
    open(f"{folder}/merges.txt", "w").write("#version: 0.2\n")
    return CLIPTokenizer(f"{folder}/vocab.json", f"{folder}/merges.txt", model_max_length=77)


def make_pipeline(folder, seed):
    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        sample_size=64, in_channels=4, out_channels=4, block_out_channels=(320, 640, 1280, 1280), layers_per_block=2,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",), up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        attention_head_dim=8, cross_attention_dim=768)
    vae = AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, sample_size=512, block_out_channels=(128, 256, 512, 512), layers_per_block=2,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, scaling_factor=0.18215)
    text_encoder = CLIPTextModel(CLIPTextConfig(
        vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, max_position_embeddings=77,
        hidden_act="quick_gelu", projection_dim=768, bos_token_id=49406, eos_token_id=49407, pad_token_id=1))
    scheduler = DDIMScheduler(
        num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
        set_alpha_to_one=False, steps_offset=1)
    StableDiffusionPipeline(
        vae=vae, text_encoder=text_encoder, tokenizer=tokenizer(f"{folder}/tokenizer"), unet=unet, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False).to(torch.float16).save_pretrained(folder)
    AutoencoderTiny().half().save_pretrained(f"{folder}/taesd")


def peak_rss_mb():
    """From /proc: getrusage's figure survives exec, so that a child would report its parent's."""
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) // 1024


@torch.no_grad()
def measure(folder, component, seed):
    """Load one component, run it twice, write its golden file, return what it cost."""
    started = time.perf_counter()
    if component == "text_encoder":
        model = CLIPTextModel.from_pretrained(f"{folder}/text_encoder", dtype=torch.float32).eval()
    else:
        model = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "taesd": AutoencoderTiny}[component].from_pretrained(
            folder, subfolder=component, torch_dtype=torch.float32).eval()
    loaded, g = time.perf_counter(), torch.Generator().manual_seed(seed)
    if component == "unet":
        inputs = dict(sample=torch.randn(1, 4, 64, 64, generator=g), timestep=torch.tensor([501]),
                      encoder_hidden_states=torch.randn(1, 77, 768, generator=g))
        call, name = lambda: model(**inputs).sample, "output"
    elif component in ("vae", "taesd"):
        inputs = dict(latents=torch.randn(1, 4, 64, 64, generator=g))
        call, name = lambda: model.decode(inputs["latents"]).sample, "image"
    else:
        ids = torch.full((1, 77), 49407)
        ids[0, 0], ids[0, 1:20] = 49406, torch.randint(0, 49406, (19,), generator=g)
        inputs = dict(input_ids=ids)
        call, name = lambda: model(**inputs).last_hidden_state, "last_hidden_state"
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        output = call()
        seconds.append(time.perf_counter() - start)
    assert output.dtype == torch.float32 and output.isfinite().all() and output.std() > 1e-3
    save_file({**inputs, name: output.contiguous()}, f"{folder}/golden/{component}.safetensors")
    return dict(load_seconds=round(loaded - started, 3), seconds=round(min(seconds), 3), first_call_seconds=round(seconds[0], 3),
                peak_rss_mb=peak_rss_mb(), threads=torch.get_num_threads(),
                output_mean=output.mean().item(), output_std=output.std().item())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["make", "measure"])
    parser.add_argument("folder")
    parser.add_argument("--component", choices=COMPONENTS, help="measure only this one, in this process, and print its JSON")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    os.makedirs(f"{a.folder}/golden", exist_ok=True)
    if a.component:
        print(json.dumps(measure(a.folder, a.component, a.seed)))
        return
    if a.command == "make":
        make_pipeline(a.folder, a.seed)
    results = {}
    for component in COMPONENTS:
        child = [sys.executable, __file__, "measure", a.folder, "--component", component, "--threads", str(a.threads), "--seed", str(a.seed)]
        results[component] = json.loads(subprocess.run(child, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])
        print(component, results[component], flush=True)
    results["versions"] = {name: __import__(name).__version__ for name in ("torch", "diffusers", "transformers")}
    json.dump(results, open(f"{a.folder}/golden/measurements.json", "w"), indent=2)


if __name__ == "__main__":
    main()
