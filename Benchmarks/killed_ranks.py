"""Kills a rank of a run at a random moment, again and again: how long the others take to end, and whether the run can be continued.

    .venv/bin/python Benchmarks/killed_ranks.py --kills 100 --processes 3

A short run is made once by one process. Then, for each kill: the same run on several processes; SIGKILL of one of them at a moment that is
drawn from the time of a run; the time until the last has ended; `--resume`, with another number of processes; and the adapter's bytes.
"""

import argparse
import hashlib
import os
import pathlib
import random
import shutil
import signal
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
RUN = """--model {root}/models/tiny-sd --prompts tiny-sd --reward-plugin libwarmth.so --steps 3 --sample-batch-size 4 --batches-per-epoch 2
    --train-batch-size 2 --gradient-accumulation-steps 4 --max-rows-per-pass 8 --precision fp32 --threads 1 --epochs 2 --evaluation-samples 4"""


def command(*arguments: str) -> list[str]:
    return [str(ROOT / ".build/release/dag-train"), *arguments]


def ranks_of(main: int) -> list[int]:
    """The processes of a run: the first, and its children of the same program."""
    children = " ".join(task.read_text() for task in pathlib.Path(f"/proc/{main}/task").glob("*/children")).split()
    names = {int(child): pathlib.Path(f"/proc/{child}/comm").read_text().strip() for child in children}
    return [main, *sorted(child for child, name in names.items() if name == "dag-train")]


def is_alive(process: int) -> bool:
    try:
        return ") Z" not in pathlib.Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False


def adapter(folder: pathlib.Path) -> str:
    return hashlib.sha256((folder / "pytorch_lora_weights.safetensors").read_bytes()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    choice = random.Random(options.seed)
    work = pathlib.Path(tempfile.mkdtemp())
    flags = RUN.format(root=ROOT).split()
    subprocess.run(command(*flags, "--output", str(work / "whole")), check=True, stdout=subprocess.DEVNULL)
    expected = adapter(work / "whole")
    start = time.monotonic()
    first = command("--processes", str(options.processes), *flags, "--output", str(work / "first"))
    subprocess.run(first, check=True, stdout=subprocess.DEVNULL)
    length = time.monotonic() - start
    print(f"a run takes {length:.1f} s")
    times, equal, finished = [], 0, 0
    for number in range(options.kills):
        folder = work / str(number)
        run = subprocess.Popen(
            command("--processes", str(options.processes), *flags, "--output", str(folder)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        time.sleep(choice.random() * length)
        try:
            ranks = ranks_of(run.pid)
        except OSError:  # one has just ended
            ranks = []
        if len(ranks) < options.processes:
            finished += 1  # before the others were started, or after the end
            run.kill()
            run.wait()
            continue
        victim = choice.randrange(len(ranks))
        start = time.monotonic()
        os.kill(ranks[victim], signal.SIGKILL)
        while any(is_alive(rank) for rank in ranks):
            run.poll()
            time.sleep(0.002)
        times.append(time.monotonic() - start)
        resume = ["--resume", str(folder)] if (folder / "config.yaml").exists() else [*flags, "--output", str(folder)]
        others = str(choice.randint(1, 4))
        again = subprocess.run(command("--processes", others, *resume), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if again.returncode == 0 and adapter(folder) == expected:
            equal += 1
        else:
            print(f"kill {number} of rank {victim}: the run that was continued on {others} differs: {again.stderr}")
        print(f"kill {number}: rank {victim}, {times[-1] * 1000:.0f} ms: {run.stderr.read().decode().splitlines()[:1]}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
    times.sort()
    print(f"{len(times)} kills, {equal} continued to the same bytes, {finished} moments without all ranks")
    print(f"milliseconds to the last end: median {times[len(times) // 2] * 1000:.0f}, longest {times[-1] * 1000:.0f}")
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
