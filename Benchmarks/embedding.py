"""An epoch through Python with a Python function as reward against dag-train with the same reward as a C plugin, in one run.

    make install PREFIX=/tmp/dag && DAGCORE_LIBRARY=/tmp/dag/lib/libdagcore.so.1 python Benchmarks/embedding.py --prefix /tmp/dag

Both train the same small model on the same pictures, in turns, and write the same LoRA, which is checked. Epochs are timed by the trainer
itself (metrics.jsonl). Then: what a call of the API costs from Python.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import timeit

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "python"), str(ROOT / "Tests/python")]

SETTINGS = {
    "model": str(ROOT / "models/tiny-sd"), "prompts": "tiny-sd", "epochs": 3, "steps": 10, "sample_batch_size": 32, "batches_per_epoch": 1,
    "train_batch_size": 8, "gradient_accumulation_steps": 4, "learning_rate": 1e-3, "beta": 10, "sample_every": 0, "seed": 1,
}


def epoch_seconds(folder):
    """Seconds of each epoch, sampling, scoring and training."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [32 * 10 / line["transitions_per_second"] for line in lines if "loss" in line]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--prefix", type=pathlib.Path, required=True, help="where make install put it")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    import dagcore
    from dagcore import _library
    from redness import redness

    with tempfile.TemporaryDirectory() as name:
        work = pathlib.Path(name)
        plugin = work / "libredness.so"
        source = ROOT / "Tests/python/redness_plugin.c"
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-fvisibility=hidden", f"-I{options.prefix}/include", "-o", plugin, source], check=True)
        (work / "config.yaml").write_text(json.dumps(SETTINGS))
        seconds = {"dag-train, C plugin in a worker": [], "dag-train, C plugin in-process": [], "Python, Python function": []}
        loras = set()
        for k in range(options.rounds):
            for kind, times in seconds.items():
                folder = work / f"{len(times)}-{k}-{kind.replace(' ', '-')}"
                if kind.startswith("Python"):
                    with dagcore.Trainer(SETTINGS, rewards=[redness], output=folder) as trainer:
                        trainer.run()
                else:
                    reward = f"{plugin},isolation={'none' if 'in-process' in kind else 'worker'}"
                    command = [options.prefix / "bin/dag-train", "--config", work / "config.yaml", "--reward-plugin", reward, "--output", folder]
                    subprocess.run(command, check=True, capture_output=True)
                times += epoch_seconds(folder)
                loras.add((folder / "pytorch_lora_weights.safetensors").read_bytes())
        base = statistics.median(seconds["dag-train, C plugin in a worker"])
        for kind, times in seconds.items():
            print(f"{kind + ':':33} {statistics.median(times):.3f} s an epoch (median of {len(times)}), ratio {statistics.median(times) / base:.3f}")
        print(f"different LoRAs: {len(loras)}")

        with dagcore.Trainer(SETTINGS, rewards=[redness], output=work / "calls") as trainer:
            status = _library.CStatus(struct_size=64)
            function, handle = _library.library().dag_trainer_status, trainer._handle
            print(f"dag_trainer_status through ctypes: {timeit.timeit(lambda: function(handle, status), number=100_000) * 10:.2f} us")
            print(f"Trainer.status: {timeit.timeit(lambda: trainer.status, number=100_000) * 10:.2f} us")


main()
