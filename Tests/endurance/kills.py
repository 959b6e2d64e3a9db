"""Kills dag-train at random moments, by SIGKILL, and resumes it until it is done: LoRA, metrics and samples must
be those of an unbroken run, byte by byte but for times.

    DAG_BIN=.build/release .venv/bin/python Tests/endurance/kills.py KILLS [SEED]

The last line says how many kills, finished runs and faults there were; the exit code is 1 if there was a fault.
"""
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from training import RUNS, Run, difference, unbroken


def survivors(session):
    """Processes of a session that are left, ten seconds after its head was killed."""
    for _ in range(100):
        left = []
        for entry in Path("/proc").iterdir():
            try:
                # After the command's name, which may hold anything: state, parent, group, session.
                fields = (entry / "stat").read_text().rpartition(")")[2].split() if entry.name.isdigit() else []
            except OSError:
                continue
            if fields and fields[3] == str(session) and fields[0] != "Z":
                left.append(int(entry.name))
        if not left:
            return []
        time.sleep(0.1)
    return left


def main(kills, seed):
    randoms = random.Random(seed)
    done, finished, faults, leftovers = 0, 0, [], set()
    with tempfile.TemporaryDirectory() as work:
        expected, seconds = {}, {}
        for name in RUNS:
            start = time.monotonic()
            expected[name] = unbroken(name, f"{work}/{name}")
            seconds[name] = time.monotonic() - start
        while done < kills:
            name = list(RUNS)[finished % len(RUNS)]
            run, limit = Run(name, f"{work}/{finished}"), seconds[name]
            while True:
                process = run.start()
                # A moment of the whole run, so that half of a run that was resumed gets to its end. Later after each
                # kill: on a machine that has become slower, a run would otherwise never get beyond its start.
                deadline = time.monotonic() + randoms.uniform(0, limit)
                limit *= 1.1
                while process.poll() is None and time.monotonic() < deadline:
                    time.sleep(0.002)
                if process.poll() is None and done < kills:
                    os.kill(process.pid, signal.SIGKILL)
                    done += 1
                    if left := survivors(process.pid):
                        faults.append(f"{name}: processes {left} outlive the run")
                code, said = process.wait(), process.stderr.read()
                if code == -signal.SIGKILL:
                    continue
                if code != 0:
                    faults.append(f"{name}, after {done} kills, ends with {code}: {said}")
                elif wrong := difference(expected[name], run.result()):
                    faults.append(f"{name}, after {done} kills: {', '.join(wrong)} differ from the unbroken run")
                leftovers.update(run.leftovers())
                break
            finished += 1
            print(f"{done} kills, {finished} runs, {len(faults)} faults", flush=True)
    for fault in faults:
        print(fault)
    print(f"{done} kills in {finished} runs: {len(faults)} faults; files left behind: {len(leftovers)} {sorted(leftovers)[:4]}")
    return 1 if faults else 0


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) == 3 else 0))
