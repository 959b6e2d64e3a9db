"""Short runs of dag-train that are broken off, for kills.py and full_disk.py."""
import json
import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Few steps on one thread: seconds of CPU, most of which is the start.
SHORT = """--reward-plugin jpeg_compressibility,normalize=true --epochs 2 --steps 3 --batches-per-epoch 2 --sample-batch-size 3
    --train-batch-size 3 --gradient-accumulation-steps 1 --precision fp32 --learning-rate 1e-3 --seed 1 --threads 1 --sample-every 2"""
DDPM, SD = f"--model {ROOT}/models/tiny-ddpm", f"--model {ROOT}/models/tiny-sd --prompts tiny-sd"
# Most algorithms, both kinds of model, and every kind of file and line.
RUNS = {
    "dag-db": f"{DDPM} --algorithm dag-db --evaluation-samples 2",
    "dag-kl": f"{DDPM} --algorithm dag-kl --forward-looking current",
    "dag-tb": f"{DDPM} --algorithm dag-tb --target anchored",
    "dag-subtb": f"{DDPM} --algorithm dag-subtb",
    "ddpo": f"{SD} --algorithm ddpo --per-prompt-statistics true",
    "grpo": f"{SD} --algorithm grpo --images-per-prompt 3 --base-kl-coefficient 0.1",
}


def binaries():
    """The folder of the built programs."""
    return Path(os.environ.get("DAG_BIN", ROOT / ".build/release")).resolve()


class Run:
    """A run in a folder of its own, which may be broken off and continued any number of times."""

    def __init__(self, name, folder):
        self.flags = [*SHORT.split(), *RUNS[name].split()]
        self.folder = Path(folder)
        self.log = ""
        # What continues it: it exists as soon as its settings are written, and before that it can be begun anew.
        self.settings = self.folder / "config.yaml"

    def start(self, **environment):
        """Begins or continues it; returns the process."""
        place = ["--resume", self.folder] if self.settings.exists() else ["--output", self.folder, *self.flags]
        return subprocess.Popen(
            [binaries() / "dag-train", *place], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment}, start_new_session=True)

    def attempt(self, **environment):
        """Goes on to the end; returns the exit code, below zero for a signal, and what was said."""
        process = self.start(**environment)
        self.log = process.communicate()[1]
        return process.returncode

    def result(self):
        """What the run has to show, but for times."""
        metrics = [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()]
        # What a run that was cut off warns of is its own.
        metrics = [line for line in metrics if "warning" not in line]
        for line in metrics:
            for key in ("transitions_per_second", "scoring_share"):
                line.pop(key, None)
        files = ["pytorch_lora_weights.safetensors", *(f"samples/epoch-{epoch}.png" for epoch in (0, 2))]
        return {"metrics.jsonl": metrics, **{name: (self.folder / name).read_bytes() for name in files}}

    def leftovers(self):
        """Files that no run is to leave behind."""
        known = (
            r"config\.yaml|metrics\.jsonl|report\.html|pytorch_lora_weights\.safetensors|samples/(epoch-\d+\.png|prompts\.jsonl)"
            r"|checkpoints/epoch-\d+-step-\d+\.safetensors|tensorboard/events\.out\.tfevents\.[^/]+")
        names = [str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()]
        return sorted(name for name in names if not re.fullmatch(known, name))


def unbroken(name, folder):
    """The result of the run when nothing breaks it off."""
    run = Run(name, folder)
    code = run.attempt()
    if code != 0:
        raise SystemExit(f"the unbroken run {name} ended with {code}:\n{run.log}")
    return run.result()


def difference(expected, found):
    """Names of files that differ."""
    return [name for name in expected if expected[name] != found.get(name)]
