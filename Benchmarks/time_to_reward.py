"""Time to a reward: from the start of a program to the first epoch whose LoRA reaches a mean reward on seeds that nothing was trained on.

The demo's task (tiny-sd, libwarmth.so) from the same weights, prompts and numbers of images, on the same threads, one after the other:
DDPO in Python with diffusers and peft (Peer/peer_dag.py), and dag-train with the demo's settings, or other algorithms with their flags.
Each epoch's LoRA is judged by the same program, dag-eval, while the training stands still, off the clock. An epoch counts once
its mean reward is `--reward` or more and, for ours, its diversity no lower than the peer's was in its epoch that counted.

    make build && scripts/setup.sh --python
    .venv/bin/python Benchmarks/time_to_reward.py --seeds 1 2 3
    .venv/bin/python Benchmarks/time_to_reward.py --ours "--algorithm ddpo --learning-rate 3e-3 --clip-range 1e-2"
"""
import argparse
import contextlib
import json
import os
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".build/release"
DEMO = ROOT / "examples/configs/tiny-sd-warmth.yaml"
ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("--reward", type=float, default=0.8)
ap.add_argument("--seeds", type=int, nargs="+", default=[1])
ap.add_argument("--ours", action="append", help='flags of dag-train over the demo\'s settings; may be repeated (default: none, "")')
ap.add_argument("--peer", default="--learning-rate 3e-3 --clip-range 1e-2", help="flags of Peer/peer_dag.py (default: %(default)s)")
ap.add_argument("--epochs", type=int, default=30, help="at most (default: %(default)s)")
ap.add_argument("--images", type=int, default=4, help="images of each of the 80 prompts that a LoRA is judged by (default: %(default)s)")
ap.add_argument("--threads", type=int, default=os.cpu_count())
a = ap.parse_args()
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": str(a.threads)}


def judged(lora):
    """Mean reward and diversity of a LoRA, on seeds of the evaluation."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [BIN / "dag-eval", "--config", DEMO, "--lora", lora, "--count", str(a.images), "--seed", "1000", "--output", folder], check=True,
            cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        found = json.loads(Path(folder, "evaluation.json").read_text())["lora"]
    return found["reward"]["value"], found["diversity"]["value"]


def epochs(command, folder, environment):
    """Seconds since the start and the LoRA of each epoch of a program, which stands still, off the clock, while one is looked at."""
    start = time.time()
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT) as process:
        try:
            for number, _ in enumerate(process.stdout, 1):
                now = time.time()
                process.send_signal(signal.SIGSTOP)
                yield now - start, folder / f"epoch-{number}.safetensors"
                process.send_signal(signal.SIGCONT)
                start += time.time() - now
            if process.wait() != 0:
                sys.exit(f"{command[1]} ended with status {process.returncode}")
        finally:
            process.kill()


def first(name, epochs, least):
    """The first epoch whose LoRA is good enough: its seconds, reward and diversity; None if there is none."""
    print(f"  {name}", flush=True)
    for number, (seconds, lora) in enumerate(epochs, 1):
        reward, diversity = judged(lora)
        print(f"    epoch {number}: {seconds:.0f} s, reward {reward:.3f}, diversity {diversity:.3f}", flush=True)
        if reward >= a.reward and diversity >= least:
            return dict(epochs=number, seconds=seconds, reward=reward, diversity=diversity)
    return None


def peer(seed, folder):
    tiny_sd = ROOT / "models/tiny-sd"
    command = [
        sys.executable, ROOT / "Benchmarks/Peer/peer_dag.py", "--model", tiny_sd, "--prompts", tiny_sd / "open-prompts.txt", "--algorithm", "ddpo",
        "--reward", "warmth", "--epochs", a.epochs, "--steps", 10, "--sample-batch-size", 64, "--batches-per-epoch", 1, "--seed", seed,
        "--threads", a.threads, "--precision", "fp32", "--save", folder, *shlex.split(a.peer)]
    return epochs(command, folder, ENVIRONMENT)


# Trains to the end; a copy of the LoRA and a line for each epoch.
OURS = """
import json, shutil, sys
import dagcore
settings, folder = json.loads(sys.argv[1]), sys.argv[2]
with dagcore.Trainer(settings, output=folder + "/run") as trainer:
    for epoch in trainer:
        shutil.copy(folder + "/run/pytorch_lora_weights.safetensors", f"{folder}/epoch-{epoch.index + 1}.safetensors")
        print("done", flush=True)
"""


def ours(flags, seed, folder):
    settings = yaml.safe_load(DEMO.read_text())
    words = shlex.split(flags)
    settings |= {flag.removeprefix("--").replace("-", "_"): value for flag, value in zip(words[::2], words[1::2], strict=True)}
    settings |= dict(epochs=a.epochs, seed=seed, threads=a.threads, precision="fp32", sample_every=0, evaluation_samples=0)
    for key, value in settings.items():  # 1e-3, a text in YAML and of flags
        with contextlib.suppress(TypeError, ValueError):
            settings[key] = json.loads(value)
    command = [sys.executable, "-c", OURS, json.dumps(settings), folder]
    environment = ENVIRONMENT | {"PYTHONPATH": str(ROOT / "python"), "DAGCORE_LIBRARY": str(BIN / "libdagcore.so")}
    return epochs(command, folder, environment)


found = {}
for seed in a.seeds:
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        found.setdefault("peer, ddpo", []).append(first("peer, ddpo", peer(seed, Path(folder)), 0))
    least = (found["peer, ddpo"][-1] or {"diversity": 0})["diversity"]
    for flags in a.ours or [""]:
        name = f"ours, {flags or 'the settings of the demo'}"
        with tempfile.TemporaryDirectory() as folder:
            found.setdefault(name, []).append(first(name, ours(flags, seed, Path(folder)), least))
print(f"\nto a reward of {a.reward}, {a.threads} threads, fp32, seeds {a.seeds}: medians")
for name, results in found.items():
    reached = [result for result in results if result]
    if not reached:
        print(f"{name}: not in {a.epochs} epochs")
        continue
    medians = {key: statistics.median(result[key] for result in reached) for key in reached[0]}
    print(
        f"{name}: {medians['seconds']:.0f} s, {medians['epochs']:.0f} epochs of 64 images, reward {medians['reward']:.3f}, "
        f"diversity {medians['diversity']:.3f}; reached by {len(reached)} of {len(results)}")
