"""Tries the programs of a kit (pack.sh) on a GPU, and compares them with the CPU and with diffusers on the same card.

    python scripts/gpu/check.py --kit DIR --output DIR [--device cuda] [--only STEP ...]

Steps: parity (tiny-sd against the CPU), training (every algorithm, and dag-eval), epochs (of Stable Diffusion 1.5's size with random
weights, with and without what saves time or memory), nabla (DAG-Nabla of that size, with either flow network, and its scales on
tiny-ddpm), estimate (of such an epoch), processes (two on the card), reward (one with device=cuda in its own process), clip (CLIPScore,
and CLIP's features), size (against diffusers), speed (milliseconds a row, ours and diffusers'), failures (out of memory).
Each stands alone: what fails is written down, and the next goes on. Writes OUTPUT/gpu.json and prints a table of it.
"""
import argparse
import glob
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

import numpy
import torch
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TINY = ROOT / "models/tiny-sd"
sys.path.insert(0, str(ROOT / "scripts"))


class Check:
    """The kit, the card and what was found."""

    def __init__(self, options):
        self.device, self.output, self.bin = options.device, options.output, options.kit / "bin"
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="gpu-check-"))
        card = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
        self.found = {"card": card, "torch": torch.__version__}
        torch_lib = pathlib.Path(torch.__file__).parent / "lib"
        nvidia = {os.path.dirname(path) for path in glob.glob(f"{torch_lib.parent.parent}/nvidia/**/*.so*", recursive=True)}
        libraries = [str(torch_lib), *sorted(nvidia), str(options.kit / "lib"), os.environ.get("LD_LIBRARY_PATH", "")]
        self.environment = os.environ | {"LD_LIBRARY_PATH": ":".join(libraries), "DAG_REWARD_PATH": str(self.bin)}

    def note(self, name, value):
        """Writes a finding down."""
        self.found[name] = value
        print(name, json.dumps(value), flush=True)
        (self.output / "gpu.json").write_text(json.dumps(self.found, indent=1))

    def run(self, name, program, *words, timeout=150, environment=None, fails=False):
        """Runs one of the programs. Returns its standard output; None if it failed, unless that is what is asked for."""
        peak, stop = [0], threading.Event()

        def watch():
            question = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
            while not stop.wait(0.1):
                answer = subprocess.run(question, capture_output=True, text=True).stdout.split() if self.device == "cuda" else []
                peak[0] = max(peak[0], int(answer[0]) if answer else 0)

        watcher, start = threading.Thread(target=watch), time.monotonic()
        watcher.start()
        try:
            done = subprocess.run(
                [str(self.bin / program), *map(str, words)], capture_output=True, text=True, cwd=ROOT, timeout=timeout,
                env=self.environment | (environment or {}))
            result = {"exit": done.returncode, "seconds": round(time.monotonic() - start, 1), "card_mb": peak[0]}
            if done.returncode:
                result["said"] = done.stderr.strip()[-500:]
        except subprocess.TimeoutExpired:
            done, result = None, {"exit": "timeout", "seconds": timeout, "card_mb": peak[0]}
        finally:
            stop.set()
            watcher.join()
        self.note(name, result)
        return done.stdout if done and (fails or done.returncode == 0) else None

    def train(self, name, output, *words, **more):
        """Runs dag-train. Returns the lines of metrics.jsonl but for warnings."""
        folder = self.work / output
        words = ("--device", self.device, "--sample-every", 0, "--output", folder, *words)
        if self.run(name, "dag-train", *words, **more) is None:
            return []
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        return [line for line in lines if "warning" not in line]

    @property
    def sd15(self):
        """A folder in the layout and size of Stable Diffusion 1.5, made when first asked for, with what diffusers computes on the CPU."""
        folder = self.work / "sd15"
        if not folder.exists():
            script = ROOT / "scripts/full_size_reference.py"
            subprocess.run([sys.executable, script, "make", folder, "--threads", str(os.cpu_count())], check=True, stdout=subprocess.DEVNULL)
        return folder


def parity(check):
    pictures = {}
    for device, precision in (("cpu", "fp32"), (check.device, "fp32"), (check.device, "bf16")):
        file = check.work / f"{device}-{precision}.png"
        words = ["--model", TINY, "--prompt", "a red boot on a blue background", "--count", 1, "--seed", 7, "--steps", 20]
        check.run(f"sample {device} {precision}", "dag-sample", *words, "--device", device, "--precision", precision, "--output", file)
        pictures[device, precision] = numpy.asarray(Image.open(file)).astype(int)
    for precision in ("fp32", "bf16"):
        difference = abs(pictures[check.device, precision] - pictures["cpu", "fp32"])
        check.note(f"parity {precision}", {"largest": int(difference.max()), "mean": round(float(difference.mean()), 3), "of": 255})


def training(check):
    needs = {
        "dag-vargrad": ("--images-per-prompt", 4), "dag-replay": ("--target", "anchored"),
        "dag-nabla": ("--target", "anchored", "--beta-annealing", 0),
        "grpo": ("--images-per-prompt", 8, "--base-kl-coefficient", 0.1)}
    for algorithm in ("dag-db", "dag-kl", "dag-tb", "dag-subtb", "dag-vargrad", "dag-replay", "dag-nabla", "ddpo", "grpo"):
        name = f"tiny-sd {algorithm}"
        lines = check.train(
            name, name.replace(" ", "-"), "--model", TINY, "--prompts", "tiny-sd", "--reward-plugin", "libwarmth.so", "--algorithm", algorithm,
            "--epochs", 2, "--steps", 10, "--sample-batch-size", 64, "--batches-per-epoch", 1, "--train-batch-size", 8,
            "--gradient-accumulation-steps", 4, *needs.get(algorithm, ()))
        keys = (
            "reward_mean", "loss", "ratio_deviation", "clip_fraction", "effective_share", "flow_gradient", "flow_gradient_scale",
            "policy_scale", "transitions_per_second")
        check.note(f"{name} metrics", [{key: line[key] for key in keys if key in line} for line in lines[-2:]])
    check.train(
        "tiny-sd convolutions", "convolutions", "--model", TINY, "--prompts", "tiny-sd", "--reward-plugin", "libwarmth.so", "--epochs", 2,
        "--steps", 10, "--sample-batch-size", 64, "--batches-per-epoch", 1, "--train-batch-size", 8, "--gradient-accumulation-steps", 4,
        "--precision", "bf16", "--lora-targets", "to_q,to_k,to_v,to_out.0,conv1,conv2", "--ema-decay", 0.9)
    words = ["--run", check.work / "tiny-sd-dag-replay", "--beta", 50, "--modes", "red,orange,yellow", "--count", 16]
    said = check.run("tiny-sd dag-eval", "dag-eval", *words)
    check.note("tiny-sd dag-eval says", said and said.splitlines())


def failures(check):
    words = ["--sample-batch-size", 4096, "--batches-per-epoch", 1, "--max-rows-per-pass", 8192, "--train-batch-size", 1]
    check.train(
        "out of memory", "out-of-memory", "--model", check.sd15, "--prompts", "simple-animals", "--reward-plugin", "libwarmth.so",
        "--epochs", 1, "--steps", 2, "--precision", "fp32", *words)


def size(check):
    for component in ("text_encoder", "vae", "unet"):
        for precision in ("fp32", "bf16") if component != "text_encoder" else ("fp32",):
            name, words = f"sd15 {component} {precision}", ["--precision", precision, "--device", check.device]
            said = check.run(name, "model-benchmark", "compare", check.sd15, component, *words)
            check.note(f"{name} against diffusers", said and said.strip())


def speed(check):
    for precision, rows in (("bf16", (1, 4, 16, 64)), ("fp32", (1, 16))):
        said = check.run(
            f"speed {precision}", "model-benchmark", "speed", check.sd15, "--device", check.device, "--precision", precision,
            "--forward", *rows)
        check.note(f"ms {precision}", said and json.loads(said))
    check.note("ms bf16, diffusers", diffusers_milliseconds(check))


def diffusers_milliseconds(check):
    """What `model-benchmark speed` measures, of diffusers and peft: channels-last, bf16, scaled dot-product attention, LoRA of rank 4."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from peft import LoraConfig

    like = {"device": check.device, "dtype": torch.bfloat16}

    def load(kind, part):
        model = kind.from_pretrained(check.sd15, subfolder=part, torch_dtype=torch.bfloat16)
        return model.to(check.device, memory_format=torch.channels_last).requires_grad_(False)

    def milliseconds(call):
        times = []
        for _ in range(7):
            start = time.perf_counter()
            call()
            if check.device == "cuda":
                torch.cuda.synchronize()
            times.append((time.perf_counter() - start) * 1000)
        return sorted(times[2:])[2]

    def inputs(count):
        timesteps = torch.full((count,), 500, device=check.device)
        return torch.randn(count, 4, 64, 64, **like), timesteps, torch.randn(count, 77, 768, **like)

    unet, found = load(UNet2DConditionModel, "unet"), {"forward": {}, "forward and backward": {}, "decode": {}}
    with torch.no_grad():
        for count in (1, 4, 16, 64):
            row = inputs(count)
            found["forward"][count] = milliseconds(lambda row=row: unet(*row).sample) / count
        vae = load(AutoencoderKL, "vae")
        for count in (1, 8):
            latents = torch.randn(count, 4, 64, 64, **like)
            found["decode"][count] = milliseconds(lambda latents=latents: vae.decode(latents).sample) / count
    unet.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
    for count in (1, 4, 16):
        row = inputs(count)

        def both(row=row):
            unet.zero_grad()
            unet(*row).sample.float().square().mean().backward()

        found["forward and backward"][count] = milliseconds(both) / count
    return found


def epoch(check, name, *words, **more):
    """Two epochs of Stable Diffusion 1.5's size, 16 trajectories of 10 steps each, and the transitions a second of the second."""
    lines = check.train(
        f"sd15 {name}", f"sd15-{name}".replace(" ", "-"), "--model", check.sd15, "--prompts", "simple-animals", "--epochs", 2, "--steps", 10,
        "--sample-batch-size", 16, "--batches-per-epoch", 1, "--train-batch-size", 8, "--gradient-accumulation-steps", 2,
        "--precision", "bf16", *words, timeout=200, **more)
    check.note(f"sd15 {name}, transitions a second", lines and lines[-1]["transitions_per_second"])


def epochs(check):
    reward = ("--reward-plugin", "libjpeg_compressibility.so")
    stretch, share = ("--flow-every", 5), ("--timestep-fraction", 0.25)
    small = ("--prediction-decoder", check.sd15 / "taesd")
    epoch(check, "dag-db", *reward)
    epoch(check, "dag-db, flow every 5", *reward, *stretch)
    epoch(check, "dag-db, a quarter of the transitions", *reward, *share)
    epoch(check, "dag-db, small decoder", *reward, *small)
    epoch(check, "dag-db, small decoder and a quarter", *reward, *small, *share)
    epoch(check, "dag-db, gradient checkpointing", *reward, "--gradient-checkpointing", "true")
    epoch(check, "dag-replay", *reward, "--algorithm", "dag-replay", "--target", "anchored", "--replay-updates", 4)
    epoch(check, "ddpo", *reward, "--algorithm", "ddpo")


def nabla(check):
    words = ("--reward-plugin", "libjpeg_compressibility.so", "--algorithm", "dag-nabla", "--target", "anchored", "--beta-annealing", 0)
    updates = ("--flow-updates", 8, "--replay-updates", 8, "--images-per-prompt", 8)
    epoch(check, "dag-nabla", *words, *updates)
    epoch(check, "dag-nabla, unet-encoder", *words, *updates, "--flow-network", "unet-encoder")
    # Enough images for its scales to be measured.
    lines = check.train(
        "tiny-ddpm dag-nabla", "tiny-ddpm-dag-nabla", "--model", ROOT / "models/tiny-ddpm", "--reward-plugin",
        "libcifar_classifier.so,classes=sandal+sneaker+bag+boot", "--algorithm", "dag-nabla", "--target", "anchored", "--beta-annealing", 0,
        "--epochs", 1, "--steps", 10, "--sample-batch-size", 256, "--batches-per-epoch", 4, "--train-batch-size", 64,
        "--gradient-accumulation-steps", 1, "--flow-updates", 300, "--replay-updates", 50)
    scales = [{key: line[key] for key in ("flow_gradient_scale", "policy_scale") if key in line} for line in lines[-1:]]
    check.note("tiny-ddpm dag-nabla scales", scales)


def estimate(check):
    words = ["--model", check.sd15, "--prompts", "simple-animals", "--reward-plugin", "libjpeg_compressibility.so", "--estimate"]
    said = check.run("sd15 estimate", "dag-train", *words, "--device", check.device, "--precision", "bf16")
    check.note("sd15 estimate says", said and said.splitlines())


def reward(check):
    from reward_full_size import aesthetic

    folder = check.work / "aesthetic"
    folder.mkdir()
    _, options = aesthetic(folder, None)
    options = ",".join(f"{key}={value}" for key, value in options.items())
    epoch(check, "ddpo with aesthetic on the card", "--reward-plugin", f"libaesthetic.so,{options},device={check.device}", "--algorithm", "ddpo")


def clip(check):
    from reward_full_size import clipscore

    folder = check.work / "clipscore"
    folder.mkdir()
    clipscore(folder, None)
    lines = check.train(
        "tiny-sd with clipscore on the card", "clipscore-run", "--model", TINY, "--prompts", "tiny-sd", "--algorithm", "ddpo", "--epochs", 2,
        "--steps", 10, "--sample-batch-size", 64, "--batches-per-epoch", 1, "--train-batch-size", 8, "--gradient-accumulation-steps", 4,
        "--reward-plugin", f"libclipscore.so,weights={folder},objective=cosine,device={check.device}")
    check.note("tiny-sd with clipscore, rewards", [line["reward_mean"] for line in lines])
    words = ["--run", check.work / "clipscore-run", "--beta", 1, "--count", 8, "--features", folder, "--device", check.device]
    said = check.run("tiny-sd features", "dag-eval", *words)
    check.note("tiny-sd features says", said and said.splitlines())


def processes(check):
    reward = ("--reward-plugin", "libjpeg_compressibility.so")
    epoch(check, "dag-db in two processes", *reward, "--processes", 2)


STEPS = (parity, training, epochs, nabla, estimate, processes, reward, clip, size, speed, failures)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kit", type=pathlib.Path, required=True)
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", nargs="*", choices=[step.__name__ for step in STEPS])
    options = parser.parse_args()
    check = Check(options)
    for step in STEPS:
        if options.only and step.__name__ not in options.only:
            continue
        start = time.monotonic()
        try:
            step(check)
        except Exception as error:
            check.note(step.__name__, {"error": repr(error)[:500]})
        check.note(f"seconds of {step.__name__}", round(time.monotonic() - start))
    print("\n".join(f"{name:40} {json.dumps(value)}" for name, value in check.found.items()))


if __name__ == "__main__":
    main()
