"""Runs dag-train on a disk that is full from the n-th write on, or for that one alone, for every n: it must end with one line that
names the file, with an exit code, and with whole files; and when there is room again, resume to the bytes of the run that had it.

    DAG_BIN=.build/release .venv/bin/python Tests/endurance/full_disk.py [EVERY [RUN]]

EVERY takes each EVERY-th n (1), RUN one of the runs in training.py (dag-db). The last line says how many writes failed and how many
faults there were; the exit code is 1 if there was a fault. Needs cc, which makes full_disk.c a library that the run preloads.
"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from safetensors import safe_open
from training import Run, difference, unbroken


def check_files(folder):
    """Raises an error if a file that a user would find there is not whole."""
    for path in folder.rglob("*"):
        if path.name.startswith("."):
            continue
        if path.suffix == ".safetensors":
            with safe_open(path, "np") as file:
                for name in file.keys():
                    file.get_tensor(name)
        elif path.suffix == ".png":
            Image.open(path).load()
        elif path.suffix == ".jsonl":
            for line in path.read_text().splitlines():
                json.loads(line)


def fault(run, expected, environment):
    """What is wrong when writes fail, or None."""
    code = run.attempt(**environment)
    run.ended = code != 0
    lines = [line for line in run.log.splitlines() if line.startswith("dag-train: ")]
    if code == 0:
        # A write that is not needed may fail; then nothing may be missing.
        wrong = difference(expected, run.result())
        return f"ends with 0, but {', '.join(wrong)} differ" if wrong else None
    if code < 0:
        return f"was ended by signal {-code}: {run.log}"
    if len(lines) != 1 or str(run.folder) not in lines[0]:
        return f"ends with {code} and not one line that names a file: {run.log}"
    try:
        check_files(run.folder)
    except Exception as error:
        return f"leaves a broken file: {error!r}"
    if run.attempt() != 0:
        return f"cannot be resumed: {run.log}"
    wrong = difference(expected, run.result())
    return f"resumes to other bytes: {', '.join(wrong)}" if wrong else None


def main(every, name):
    faults, failed, ended = [], 0, 0
    with tempfile.TemporaryDirectory() as work:
        library, count = f"{work}/full_disk.so", Path(work, "count")
        source = Path(__file__).with_suffix(".c")
        subprocess.run(["cc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
        preload = {"LD_PRELOAD": library}
        expected = unbroken(name, f"{work}/unbroken")
        counting = Run(name, f"{work}/counted")
        counting.attempt(**preload, DAG_DISK=str(counting.folder), DAG_DISK_COUNT=str(count))
        writes = int(count.read_text())
        for number in range(1, writes + 1, every):
            for once in ({"DAG_DISK_ONCE": "1"}, {}):
                run = Run(name, f"{work}/{number}{'-once' if once else ''}")
                problem = fault(run, expected, {**preload, **once, "DAG_DISK": str(run.folder), "DAG_DISK_CALL": str(number)})
                failed += 1
                ended += run.ended
                if problem:
                    faults.append(f"write {number}{' alone' if once else ' and all after it'}: {problem}")
                    print(faults[-1], flush=True)
    print(f"{failed} runs of {name} on disks that were full at one of {writes} writes, {ended} ended by it: {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    if len(sys.argv) > 3:
        raise SystemExit(__doc__)
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1, sys.argv[2] if len(sys.argv) > 2 else "dag-db"))
