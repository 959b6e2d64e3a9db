"""Many short runs in one process, through the C API: memory, file descriptors and threads must not grow.

    DAGCORE_LIBRARY=.build/release/libdagcore.so .venv/bin/python Tests/endurance/soak.py MINUTES|RUNSx

A round is five runs: one to its end, one in a plugin's process, one resumed, one cancelled, one refused. RUNSx is a number of rounds, as
in 4x. The last line says what grew; the exit code is 1 if something grew that may not.
"""
import ctypes
import gc
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "python"))
import dagcore

SMALL = {
    "model": f"{ROOT}/models/tiny-ddpm", "epochs": 1, "steps": 2, "sample_batch_size": 2, "batches_per_epoch": 1, "train_batch_size": 2,
    "gradient_accumulation_steps": 1, "precision": "fp32", "sample_every": 0, "threads": 1, "device": "cpu",
}
TEXT = {**SMALL, "model": f"{ROOT}/models/tiny-sd", "prompts": "tiny-sd", "guidance_scale": 2}
PLUGIN = {**SMALL, "reward_plugin": ["jpeg_compressibility,normalize=true"]}
# In megabytes, over all rounds: a model that is not freed takes more in each.
MOST_GROWTH = 2
WARM_UP = 2


def redness(images, prompts, metadata):
    return images[..., 0].mean(axis=(1, 2)) / 255


def once(folder):
    """One round."""
    with dagcore.Trainer(TEXT, rewards=[redness], output=f"{folder}/text") as trainer:
        trainer.run()
        trainer.sample(["a red boot"], seeds=[7])
    with dagcore.Trainer(PLUGIN, epochs=2, output=f"{folder}/plugin") as trainer:
        next(iter(trainer))
        trainer.save()
    with dagcore.Trainer.resume(f"{folder}/plugin") as trainer:
        trainer.run()
    begun = []
    stop = lambda *_: begun and begun[0].cancel()
    with dagcore.Trainer(SMALL, rewards=[redness], progress=stop, output=f"{folder}/cancelled") as trainer:
        begun.append(trainer)
        try:
            trainer.run()
            raise SystemExit("a run that was cancelled went on to its end")
        except dagcore.Cancelled:
            pass
    try:
        dagcore.Trainer(SMALL, model=f"{ROOT}/docs", rewards=[redness], output=f"{folder}/refused").run()
        raise SystemExit("a folder without a model was trained")
    except dagcore.DagError:
        pass


def used():
    """Megabytes in memory, descriptors, threads and child processes."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return (round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1), len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")), len(children))


def main(amount):
    rounds = int(amount[:-1]) if amount.endswith("x") else None
    end = time.monotonic() + (0 if rounds else 60 * float(amount))
    series = []
    with tempfile.TemporaryDirectory() as work:
        while len(series) < WARM_UP + 2 or (len(series) < rounds if rounds else time.monotonic() < end):
            folder = Path(work, str(len(series)))
            folder.mkdir()
            once(folder)
            shutil.rmtree(folder)
            series.append(used())
            print(f"round {len(series)}: {series[-1]}", flush=True)
    first, last = series[WARM_UP - 1], series[-1]
    growth = last[0] - first[0]
    grew = [name for name, a, b in zip(("descriptors", "threads", "children"), first[1:], last[1:]) if b > a]
    if growth > MOST_GROWTH:
        grew.append("memory")
    descriptors, threads, children = (f"from {a} to {b}" for a, b in zip(first[1:], last[1:]))
    print(f"{len(series)} rounds of 5 runs: {growth:.1f} MB more, {descriptors} descriptors, {threads} threads, {children} children; "
          f"grew: {', '.join(grew) or 'nothing'}")
    return 1 if grew else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    sys.exit(main(sys.argv[1]))
