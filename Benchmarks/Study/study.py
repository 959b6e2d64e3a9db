"""Is it right, and is it better? Runs every algorithm under the same conditions, and reports what came of it.

    make study                                     # everything: set-up, build, runs, report
    .venv/bin/python Benchmarks/Study/study.py --only pixels --seeds 0 1 2 --jobs 2

Parts: `density` trains on a line whose target is known (exact-density); `pixels` is the paper's CIFAR-10 experiment on a little DDPM of
clothes, `text` the same on a little Stable Diffusion; `memory` compares peak memories. What is there already is not run again, and a
run that was stopped goes on where it was. In the output folder: report.html, curves.csv, results.csv, density.csv, memory.csv, plots.
"""
import argparse
import concurrent.futures
import csv
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE, BIN = Path(__file__).resolve().parent, ROOT / ".build/release"
LIKED = ["sandal", "sneaker", "bag", "boot"]

# What a method changes in the settings of an experiment. All train on the same number of trajectories.
METHODS = {
    "dag-db": {"algorithm": "dag-db"},
    "dag-kl": {"algorithm": "dag-kl"},
    "dag-tb": {"algorithm": "dag-tb"},
    "dag-subtb": {"algorithm": "dag-subtb"},
    "ddpo": {"algorithm": "ddpo"},
    "dag-db-anchored": {"algorithm": "dag-db", "target": "anchored"},
    "dag-tb-anchored": {"algorithm": "dag-tb", "target": "anchored"},
}


class Experiment:
    """Settings that all methods share (NAME.yaml), and what each has of its own, found with a seed that is not among the study's."""

    def __init__(self, name, model, prompts, pictures, steps, methods):
        self.name, self.model, self.prompts, self.pictures, self.steps, self.methods = name, model, prompts, pictures, steps, methods

    def flags(self, method):
        settings = METHODS[method] | self.methods[method]
        return [word for key, value in settings.items() for word in ("--" + key.replace("_", "-"), str(value))]

    def sample(self):
        """Arguments of dag-sample."""
        text = ["--prompts", ROOT / self.prompts] if self.prompts else []
        return ["--model", ROOT / self.model, *text, "--count", self.pictures, "--steps", self.steps, "--seed", 1 << 32, "--batch-size", 128]


POLICY_GRADIENT = {"learning_rate": 3e-3, "clip_range": 1e-2}
EXPERIMENTS = [
    Experiment("pixels", "models/tiny-ddpm", None, 1024, 20, {
        "dag-db": {}, "dag-kl": POLICY_GRADIENT, "ddpo": POLICY_GRADIENT, "dag-db-anchored": {}}),
    Experiment("text", "models/tiny-sd", "models/tiny-sd/open-things.txt", 60, 10, {
        "dag-db": {}, "dag-kl": POLICY_GRADIENT, "ddpo": POLICY_GRADIENT}),
]


def run(command, log):
    """Runs a program with one thread; its output goes to a file. Returns peak memory in MB."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    with open(log, "a") as out:
        process = subprocess.Popen([str(word) for word in command], stdout=out, stderr=out, cwd=ROOT, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}\nfailed; the end of {log}:\n" + "\n".join(log.read_text().splitlines()[-15:]))
    return usage.ru_maxrss / 1024


def judge(output):
    """A second classifier, of other initial weights, that is watched and not trained on."""
    weights = output / "judge.safetensors"
    if not weights.exists():
        print("judge: training a second classifier", flush=True)
        script = ROOT / "Plugins/CIFARClassifier/train_fashion_classifier.py"
        part = output / "judge.part.safetensors"
        run([sys.executable, script, "--seed", 1, "--epochs", 3, "--output", part], output / "judge.log")
        part.rename(weights)
    return weights


def lines(folder):
    """Of a run: the metrics of its optimiser steps."""
    path = folder / "metrics.jsonl"
    return [line for line in map(json.loads, path.read_text().splitlines()) if "step" in line] if path.exists() else []


def train(experiment, method, seed, output, weights):
    """One run, and images of what it has learned."""
    folder = output / experiment.name / f"{method}-{seed}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    log, pictures = folder.with_suffix(".log"), folder / "pictures"
    if not (folder / "done").exists():
        if (folder / "checkpoints").exists() and any((folder / "checkpoints").iterdir()):
            run([BIN / "dag-train", "--resume", folder], log)
        else:
            reward = f"cifar_classifier,threads=1,classes={'+'.join(LIKED)}"
            run([BIN / "dag-train", "--config", HERE / f"{experiment.name}.yaml", "--output", folder, "--seed", seed, "--threads", 1,
                 "--reward-plugin", reward, "--reward-plugin", f"{reward},weights={weights},weight=0", *experiment.flags(method)], log)
        (folder / "done").touch()
    sample(experiment, pictures, log, ["--lora", folder / "pytorch_lora_weights.safetensors"])
    print(f"{experiment.name}: {method}, seed {seed}: done", flush=True)


def sample(experiment, folder, log, lora=()):
    if not folder.exists():
        part = folder.with_suffix(".part")
        run([BIN / "dag-sample", *experiment.sample(), *lora, "--output", part], log)
        part.rename(folder)


def density(output, algorithm, target, seed):
    table = output / "density" / f"{algorithm}-{target}-{seed}.csv"
    table.parent.mkdir(parents=True, exist_ok=True)
    if not table.exists():
        run([BIN / "exact-density", "--algorithm", algorithm, "--target", target, "--seed", seed, "--output", table], table.with_suffix(".log"))
    print(f"density: {algorithm}, {target}, seed {seed}: done", flush=True)


def memory(output):
    """Peak memory of dag-train by steps of a trajectory, and that of one graph over all transitions."""
    table, scratch = output / "memory.csv", output / "memory"
    if table.exists():
        return
    rows = []
    for method, rows_per_pass in [("dag-db", 16), ("dag-tb", 16), ("dag-subtb", 16), ("dag-tb", 1 << 14)]:
        for steps in (10, 40):
            folder = scratch / f"{method}-{rows_per_pass}-{steps}"
            folder.parent.mkdir(parents=True, exist_ok=True)
            peak = run([BIN / "dag-train", "--model", ROOT / "models/tiny-sd", "--prompts", "tiny-sd", "--reward-plugin", "jpeg_compressibility",
                        "--algorithm", method, "--steps", steps, "--max-rows-per-pass", rows_per_pass, "--epochs", 2, "--batches-per-epoch", 1,
                        "--sample-batch-size", 8, "--train-batch-size", 8, "--gradient-accumulation-steps", 1, "--precision", "fp32",
                        "--threads", 1, "--sample-every", 0, "--output", folder], scratch / "log")
            rows.append([method, "one pass" if rows_per_pass > 16 else "passes of 16 rows", steps, round(peak)])
            print(f"memory: {rows[-1]}", flush=True)
    write(table, ["algorithm", "graph", "steps", "peak_mb"], rows)


def write(path, header, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


if __name__ == "__main__":
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--only", nargs="+", choices=["density", "pixels", "text", "memory"], default=["density", "pixels", "text", "memory"])
    ap.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    ap.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    ap.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at the same time, of one thread each")
    ap.add_argument("--output", type=Path, default=ROOT / "runs/study")
    a = ap.parse_args()
    a.output = a.output.resolve()
    a.output.mkdir(parents=True, exist_ok=True)
    chosen = [experiment for experiment in EXPERIMENTS if experiment.name in a.only]
    weights = judge(a.output) if chosen else None
    if "memory" in a.only:
        memory(a.output)
    with concurrent.futures.ThreadPoolExecutor(a.jobs) as pool:
        jobs = []
        for experiment in chosen:
            (a.output / experiment.name).mkdir(exist_ok=True)
            base = a.output / experiment.name / "base"
            jobs.append(pool.submit(sample, experiment, base, base.with_suffix(".log")))
        for seed in a.seeds:
            if "density" in a.only:
                for method in a.methods:
                    jobs.append(pool.submit(density, a.output, METHODS[method]["algorithm"], METHODS[method].get("target", "reward"), seed))
            for experiment in chosen:
                jobs += [pool.submit(train, experiment, method, seed, a.output, weights) for method in experiment.methods if method in a.methods]
        failures = [job.exception() for job in concurrent.futures.as_completed(jobs) if job.exception()]
    from report import report
    report(a.output)
    if failures:
        sys.exit("\n".join(map(str, failures)))
