"""Speed of several processes of one thread against one process with as many threads, in turns, on models/tiny-sd.

    .venv/bin/python Benchmarks/processes.py --processes 2 --rounds 5

Prints transitions a second over the second epoch, sampling and scoring included, and how busy the processors were: what is missing
to 1 is waiting, for each other and for exchanges, and what only one process does.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
RUN = """--model {root}/models/tiny-sd --prompts tiny-sd --reward-plugin libwarmth.so --algorithm {algorithm} --steps 20 --epochs 2
    --sample-batch-size 16 --batches-per-epoch 4 --precision {precision} --sample-every 0"""


def run(options: argparse.Namespace, processes: int, threads: int) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        flags = RUN.format(root=ROOT, algorithm=options.algorithm, precision=options.precision).split()
        words = ["--processes", str(processes), "--threads", str(threads), *flags, "--output", f"{folder}/run"]
        start, before = time.monotonic(), os.times()
        subprocess.run([ROOT / ".build/release/dag-train", *words], check=True, stdout=subprocess.DEVNULL)
        seconds, after = time.monotonic() - start, os.times()
        used = after.children_user + after.children_system - before.children_user - before.children_system
        lines = [json.loads(line) for line in open(f"{folder}/run/metrics.jsonl")]
        return lines[-1]["transitions_per_second"], used / (seconds * processes * threads)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--algorithm", default="dag-db")
    parser.add_argument("--precision", default="bf16")
    options = parser.parse_args()
    ratios = []
    for number in range(options.rounds):
        several, busy = run(options, options.processes, 1)
        one, busy_one = run(options, 1, options.processes)
        ratios.append(several / one)
        print(
            f"round {number}: {options.processes} processes {several:.1f} transitions/s, processors busy {busy:.2f}; "
            f"{options.processes} threads {one:.1f}, busy {busy_one:.2f}; ratio {ratios[-1]:.2f}",
            flush=True,
        )
    print(f"median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
