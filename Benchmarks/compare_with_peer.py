"""Speed of dag-train against the same training written in Python with diffusers and peft (Peer/peer_dag.py), in alternating runs.

Same weights, prompts, reward, precision, steps, batch sizes and threads; each program trains `--epochs` epochs, `--rounds` times in turn.
The figure is transitions a second over a whole epoch after the first, sampling and scoring included; also peak memory and the time
from the start of the process to its first optimiser step.

    make build && scripts/setup.sh --python
    .venv/bin/python Benchmarks/compare_with_peer.py
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("--rounds", type=int, default=3)
ap.add_argument("--epochs", type=int, default=2)
ap.add_argument("--steps", type=int, default=20)
ap.add_argument("--algorithm", default="dag-db", choices=["dag-db", "dag-kl", "ddpo"])
ap.add_argument("--precision", default="bf16", choices=["bf16", "fp32"])
ap.add_argument("--threads", type=int, default=os.cpu_count())
a = ap.parse_args()
MODEL, PROMPTS = ROOT / "models/tiny-sd", ROOT / "models/tiny-sd/open-prompts.txt"


def run(command, folder, on_line):
    """Runs a program; peak memory in MB and what `on_line(seconds, line)` made of its lines."""
    log, start = open(folder / "time.txt", "w"), time.time()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=folder)
    for line in process.stdout:
        on_line(time.time() - start, line)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{command[0]} failed:\n{(folder / 'time.txt').read_text()[-2000:]}")
    return usage.ru_maxrss // 1024


def ours(folder):
    result = {}
    def line(seconds, text):
        if text.startswith("epoch") and "first" not in result:
            result["first"] = seconds
    # Self-checks, checkpoints and sample sheets are what a user gets; only the sheets are switched off, which the peer does not make.
    result["memory"] = run(
        [ROOT / ".build/release/dag-train", "--model", MODEL, "--reward-plugin", "libjpeg_compressibility.so", "--prompts", PROMPTS, "--epochs",
         str(a.epochs), "--steps", str(a.steps), "--algorithm", a.algorithm, "--precision", a.precision, "--threads", str(a.threads),
         "--sample-every", "0", "--output", folder / "run"], folder, line)
    # The last step of an epoch has the speed of the whole epoch.
    last = {}
    for text in open(folder / "run/metrics.jsonl"):
        step = json.loads(text)
        if "loss" not in step:  # a warning
            continue
        last[step["epoch"]] = step["transitions_per_second"]
    result["speed"] = statistics.mean(v for epoch, v in last.items() if epoch > 0)
    return result


def peer(folder):
    result, speeds = {}, {}
    def line(_, text):
        if text.startswith("{"):
            epoch = json.loads(text)
            speeds[epoch["epoch"]], result["first"] = epoch["transitions_per_s"], epoch["first_step_s"]
    result["memory"] = run(
        [sys.executable, ROOT / "Benchmarks/Peer/peer_dag.py", "--model", MODEL, "--prompts", PROMPTS, "--epochs", str(a.epochs), "--steps",
         str(a.steps), "--algorithm", a.algorithm, "--precision", a.precision, "--threads", str(a.threads)], folder, line)
    result["speed"] = statistics.mean(v for epoch, v in speeds.items() if epoch > 0)
    return result


rounds = []
for _ in range(a.rounds):
    pair = []
    for name, program in (("peer", peer), ("dag-train", ours)):
        with tempfile.TemporaryDirectory() as folder:
            result = program(Path(folder))
        pair.append(result)
        print(f"{name:9}  {result['speed']:6.1f} transitions/s   first step {result['first']:5.1f} s   {result['memory']} MB", flush=True)
    rounds.append(pair[1]["speed"] / pair[0]["speed"])
print(f"ratio {statistics.median(rounds):.2f} (median of {len(rounds)} rounds: {', '.join(f'{r:.2f}' for r in rounds)})")
