"""What dag-lora writes, in diffusers: the same images by a merged model, and by files under either names.

    DAG_BIN=.build/release DAG_RUN=<output folder of a short training> pytest Tests/python/test_lora_files.py
"""
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

BIN = Path(os.environ["DAG_BIN"]).resolve()
RUN = Path(os.environ["DAG_RUN"]).resolve()
MODEL = Path(__file__).parents[2] / "models/tiny-sd"
LORA = RUN / "pytorch_lora_weights.safetensors"


def dag_lora(*arguments):
    return subprocess.run([BIN / "dag-lora", *map(str, arguments)], capture_output=True, text=True, check=False)


def made(*arguments):
    done = dag_lora(*arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(arguments[-1])
    return arguments[-1]


def pipeline(folder=MODEL, dtype=torch.float32):
    pipe = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=dtype, safety_checker=None)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def image(pipe):
    drawn = pipe("a tee on a blue background", guidance_scale=5, eta=1.0, num_inference_steps=8, generator=torch.Generator().manual_seed(3))
    return np.asarray(drawn.images[0]).astype(int)


def strong(path, tmp_path, factor=6.0, ranks=None):
    """A copy of a file of kohya's names whose effect is plain to see, with some layers' ranks cut."""
    tensors = load_file(path)
    for name in [name for name in tensors if name.endswith("lora_up.weight")]:
        rank = (ranks or {}).get(name.removesuffix(".lora_up.weight"), tensors[name].shape[1])
        down = name.replace("lora_up", "lora_down")
        tensors[name] = tensors[name][:, :rank].contiguous() * factor
        tensors[down] = tensors[down][:rank].contiguous()
    save_file(tensors, tmp_path / "strong.safetensors", {"format": "pt"})
    return tmp_path / "strong.safetensors"


@pytest.fixture
def lora(tmp_path):
    names = sorted(name.removesuffix(".alpha") for name in load_file(LORA) if name.endswith(".alpha"))
    file = strong(LORA, tmp_path, ranks={name: 1 + k % 3 for k, name in enumerate(names) if k % 4 == 0})
    assert len({tensor.shape[0] for name, tensor in load_file(file).items() if "lora_down" in name}) > 1
    return file


def with_lora(file, weight=1.0):
    pipe = pipeline()
    pipe.load_lora_weights(file.parent, weight_name=file.name, adapter_name="it")
    pipe.set_adapters("it", weight)
    return pipe


def expect_equal(one, other, most=2):
    difference = np.abs(one - other)
    assert difference.max() <= most, f"pixels differ by up to {difference.max()} (mean {difference.mean():.2f})"


@pytest.mark.parametrize("names", ["diffusers", "kohya"])
def test_convert(names, lora, tmp_path):
    """One file of two, of weights 0.7 and 0.5, under either names; then read back and written under the others."""
    file = made("convert", "--model", MODEL, "--lora", f"{lora}=0.7", "--lora", f"{lora}=0.5", "--names", names, "--output",
                tmp_path / "out.safetensors")
    with safe_open(file, "pt") as opened:
        keys, metadata = list(opened.keys()), opened.metadata()
    assert all(key.startswith("unet." if names == "diffusers" else "lora_unet_") for key in keys) and metadata["format"] == "pt"
    if names == "diffusers":
        settings = json.loads(metadata["lora_adapter_metadata"])
        assert settings["unet.r"] == settings["unet.lora_alpha"] and settings["unet.rank_pattern"]
    # The model's own weights are in float16, where merging rounds.
    pipeline().save_pretrained(tmp_path / "source")
    merged = image(pipeline(made("merge", "--model", tmp_path / "source", "--lora", f"{lora}=1.2", "--output", tmp_path / "merged")))
    drawn = image(with_lora(file))
    expect_equal(drawn, merged)
    assert np.abs(drawn - image(pipeline())).max() > 40
    other = {"diffusers": "kohya", "kohya": "diffusers"}[names]
    again = made("convert", "--model", MODEL, "--lora", file, "--names", other, "--output", tmp_path / "again.safetensors")
    expect_equal(image(with_lora(again)), merged)


@pytest.mark.parametrize("stored", ["fp32", "fp16", "sharded", "linked"])
def test_merge(stored, tmp_path):
    """The merged model draws what the model with the LoRA does, in diffusers and here; weights keep their types, other files their bytes."""
    dtype = torch.float16 if stored == "fp16" else torch.float32
    source = tmp_path / "source"
    pipeline(dtype=dtype).save_pretrained(source, max_shard_size="300KB" if stored == "sharded" else "5GB")
    assert (len(list((source / "unet").glob("*.safetensors"))) > 1) == (stored == "sharded")
    # As the cache of the hub has it.
    (source / "unet/config.json").rename(tmp_path / "blob")
    (source / "unet/config.json").symlink_to(tmp_path / "blob")
    if stored == "linked":
        (source / "unet").rename(tmp_path / "elsewhere")
        (source / "unet").symlink_to(tmp_path / "elsewhere")
    file = strong(LORA, tmp_path)
    merged = made("merge", "--model", source, "--lora", f"{file}=0.8", "--output", tmp_path / "merged")
    (tmp_path / "blob").rename(tmp_path / "moved")
    assert [path.name for path in sorted((merged / "unet").iterdir())] == ["config.json", "diffusion_pytorch_model.safetensors"]
    assert {tensor.dtype for tensor in load_file(merged / "unet/diffusion_pytorch_model.safetensors").values()} == {dtype}
    assert not any(path.is_symlink() for path in merged.rglob("*"))
    for path in source.rglob("*"):
        if path.is_file() and path.parent.name != "unet":
            assert (merged / path.relative_to(source)).read_bytes() == path.read_bytes()
    reference = image(with_lora(file, 0.8))
    expect_equal(image(pipeline(merged)), reference, most=2 if dtype == torch.float32 else 12)
    assert np.abs(reference - image(pipeline())).max() > 40
    here = subprocess.run(
        [BIN / "dag-sample", "--model", merged, "--prompt", "a tee on a blue background", "--seed", "3", "--steps", "8", "--precision", "fp32",
         "--output", tmp_path / "x.png"], capture_output=True, text=True, check=True)
    assert here.returncode == 0
    expect_equal(np.asarray(Image.open(tmp_path / "x.png").convert("RGB")).astype(int), image(pipeline(merged)), most=3)


def test_a_link_into_the_model(tmp_path):
    pipeline().save_pretrained(tmp_path / "model")
    (tmp_path / "link").symlink_to(tmp_path / "model")
    done = dag_lora("merge", "--model", tmp_path / "model", "--lora", LORA, "--output", tmp_path / "link/merged")
    assert done.returncode == 2 and "lies in the model's folder" in done.stderr


def test_what_is_refused(tmp_path):
    before = {path: path.read_bytes() for path in MODEL.rglob("*") if path.is_file()}
    cases = [
        (["merge", "--model", MODEL, "--lora", LORA, "--output", tmp_path], 2, "exists already; choose another name"),
        (["merge", "--model", MODEL, "--lora", LORA, "--output", MODEL / "unet/merged"], 2, "lies in the model's folder"),
        (["merge", "--model", tmp_path / "none", "--lora", LORA, "--output", tmp_path / "x"], 1, "no such folder"),
        (["merge", "--model", MODEL, "--lora", tmp_path / "none", "--output", tmp_path / "x"], 1, "none: no such file"),
        (["merge", "--model", MODEL, "--output", tmp_path / "x"], 2, "--lora"),
        (["merge", "--model", MODEL, "--lora", LORA, "--output", tmp_path / "no/x"], 1, "no/x: cannot be written"),
        (["convert", "--model", MODEL, "--lora", LORA, "--names", "peft", "--output", tmp_path / "x.safetensors"], 2,
         "--names must be kohya or diffusers, not peft"),
        (["convert", "--model", MODEL, "--lora", LORA, "--output", tmp_path / "x.bin"], 2, "ends in .safetensors"),
        (["convert", "--model", MODEL, "--lora", LORA, "--output", tmp_path / "no/x.safetensors"], 1, "cannot be written"),
    ]
    for arguments, status, message in cases:
        done = dag_lora(*arguments)
        assert done.returncode == status and message in done.stderr, (arguments, done.stderr)
    assert not list(tmp_path.iterdir())
    assert {path: path.read_bytes() for path in MODEL.rglob("*") if path.is_file()} == before
    # A weight that float16 cannot hold.
    pipeline(dtype=torch.float16).save_pretrained(tmp_path / "half")
    huge = strong(LORA, tmp_path, factor=1e9)
    done = dag_lora("merge", "--model", tmp_path / "half", "--lora", huge, "--output", tmp_path / "x")
    assert done.returncode == 1 and "is beyond the numbers of its type" in done.stderr and not (tmp_path / "x").exists()
