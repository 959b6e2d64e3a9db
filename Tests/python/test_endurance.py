"""Short forms of the programs in Tests/endurance, and the seeds and findings of Fuzzing: docs/reliability.md."""
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(os.environ.get("DAG_BIN", ROOT / ".build/release"))
FUZZ = BIN / "dag-fuzz"


def endurance(program, *arguments):
    """Runs a program of Tests/endurance; its last line is the failure's message."""
    library = os.environ.get("DAGCORE_LIBRARY", str(BIN / "libdagcore.so"))
    done = subprocess.run(
        [sys.executable, ROOT / "Tests/endurance" / program, *arguments], capture_output=True, text=True,
        env={**os.environ, "DAG_BIN": str(BIN), "DAGCORE_LIBRARY": library})
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


def test_killed_runs_resume_to_the_same_bytes():
    endurance("kills.py", "5")


def test_full_disk_loses_nothing():
    endurance("full_disk.py", "17")


def test_many_runs_in_a_process_leave_nothing():
    endurance("soak.py", "5x")


def targets():
    return [path.name for path in sorted((ROOT / "Fuzzing/Corpus").iterdir())]


def test_every_fuzz_target_has_seeds():
    assert targets() == sorted(subprocess.run([FUZZ, "--list"], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("target", targets())
def test_corpus(target):
    """Each input is read or refused, by a process with two gigabytes and a minute of CPU."""
    def limit():
        resource.setrlimit(resource.RLIMIT_DATA, (2 << 30, 2 << 30))
        resource.setrlimit(resource.RLIMIT_CPU, (60, 60))

    files = sorted((ROOT / "Fuzzing/Corpus" / target).iterdir())
    done = subprocess.run([FUZZ, target, *files], capture_output=True, text=True, preexec_fn=limit,
                          env={**os.environ, "OMP_NUM_THREADS": "1", "SWIFT_BACKTRACE": "enable=no"})
    assert done.returncode == 0, f"{done.returncode} at {done.stdout.splitlines()[-1]}"
    assert len(done.stdout.splitlines()) >= len(files)
