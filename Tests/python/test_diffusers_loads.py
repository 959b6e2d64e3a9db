"""dag-sample and diffusers must draw the same image from the same seed, with and without the LoRA that dag-train wrote.

    DAG_BIN=.build/release DAG_RUN=runs/example pytest Tests/python

DAG_BIN    folder with dag-sample
DAG_RUN    output folder of a dag-train run on the model, with pytorch_lora_weights.safetensors
DAG_MODEL  pipeline folder, models/tiny-sd if not set
Seed rule: picture k of --count N is the one of torch.Generator().manual_seed(seed + k).
"""
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from PIL import Image

PROMPTS = ["a tee on a red background", "a trouser on a white background", "a tee on a blue background"]
STEPS, GUIDANCE, TOLERANCE = 20, 5, 2


def existing(path):
    if not path.exists():
        pytest.fail(f"{path} does not exist")
    return path


def setting(name):
    if name not in os.environ:
        pytest.fail(f"set {name}; see {Path(__file__).name}")
    return Path(os.environ[name])


@pytest.fixture(scope="session")
def binary():
    return existing(setting("DAG_BIN") / "dag-sample")


@pytest.fixture(scope="session")
def run():
    return existing(setting("DAG_RUN") / "pytorch_lora_weights.safetensors").parent


@pytest.fixture(scope="session")
def model():
    default = Path(__file__).parents[2] / "models/tiny-sd"
    return existing(Path(os.environ.get("DAG_MODEL", default)) / "model_index.json").parent


@pytest.fixture(scope="session")
def pipelines(model, run):
    """diffusers' pipelines by whether they carry the LoRA."""
    made = {}
    for with_lora in (False, True):
        pipe = StableDiffusionPipeline.from_pretrained(model, torch_dtype=torch.float32, safety_checker=None)
        pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
        pipe.set_progress_bar_config(disable=True)
        if with_lora:
            pipe.load_lora_weights(run)
            assert pipe.get_active_adapters(), "diffusers found no adapter in the file"
        made[with_lora] = pipe
    return made


def reference(pipe, prompt, seed, **size):
    generator = torch.Generator().manual_seed(seed)
    image = pipe(prompt, guidance_scale=GUIDANCE, eta=1.0, num_inference_steps=STEPS, generator=generator, **size).images[0]
    return np.asarray(image).astype(int)


def sample(binary, model, output, prompt, seed, lora=None, count=None, **size):
    command = [binary, "--model", model, "--prompt", prompt, "--seed", seed, "--steps", STEPS, "--guidance-scale", GUIDANCE, "--eta", 1,
               "--precision", "fp32", "--output", output]
    command += ["--lora", lora] if lora else []
    command += ["--count", count] if count else []
    for name, value in size.items():
        command += [f"--{name}", value]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, f"dag-sample failed ({done.returncode}):\n{done.stdout}\n{done.stderr}"


def pixels(path):
    return np.asarray(Image.open(existing(path)).convert("RGB")).astype(int)


def assert_same(ours, theirs):
    assert ours.shape == theirs.shape
    difference = np.abs(ours - theirs)
    assert difference.max() <= TOLERANCE, f"pixels differ by up to {difference.max()} of 255 (mean {difference.mean():.3f})"


def lora_file(run):
    return run / "pytorch_lora_weights.safetensors"


@pytest.mark.parametrize("with_lora", [False, True], ids=["base", "lora"])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_same_picture(binary, model, run, pipelines, tmp_path, prompt, with_lora):
    sample(binary, model, tmp_path / "x.png", prompt, 7, lora_file(run) if with_lora else None)
    assert_same(pixels(tmp_path / "x.png"), reference(pipelines[with_lora], prompt, 7))


def test_other_sizes(binary, model, pipelines, tmp_path):
    size = {"height": 48, "width": 80}
    sample(binary, model, tmp_path / "x.png", PROMPTS[0], 7, **size)
    ours = pixels(tmp_path / "x.png")
    assert ours.shape == (48, 80, 3)
    assert_same(ours, reference(pipelines[False], PROMPTS[0], 7, **size))


def test_lora_changes_the_picture(binary, model, run, pipelines, tmp_path):
    """At least one of the prompts, in both programs: else the comparison with LoRA shows nothing."""
    changes = {"dag-sample": [], "diffusers": []}
    for k, prompt in enumerate(PROMPTS):
        sample(binary, model, tmp_path / f"base{k}.png", prompt, 7)
        sample(binary, model, tmp_path / f"lora{k}.png", prompt, 7, lora_file(run))
        changes["dag-sample"].append(np.abs(pixels(tmp_path / f"base{k}.png") - pixels(tmp_path / f"lora{k}.png")).max())
        changes["diffusers"].append(np.abs(reference(pipelines[False], prompt, 7) - reference(pipelines[True], prompt, 7)).max())
    assert all(max(change) > 4 * TOLERANCE for change in changes.values()), changes


@pytest.mark.parametrize("prompt", PROMPTS[:2])
def test_count_uses_following_seeds(binary, model, run, pipelines, tmp_path, prompt):
    sample(binary, model, tmp_path / "out", prompt, 11, lora_file(run), count=3)
    numbers = lambda path: [int(n) for n in re.findall(r"\d+", path.stem)]
    pictures = sorted((tmp_path / "out").glob("*.png"), key=numbers)
    assert len(pictures) == 3
    for k, path in enumerate(pictures):
        assert_same(pixels(path), reference(pipelines[True], prompt, 11 + k))
