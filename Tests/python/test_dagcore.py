"""The Python package, and libdagcore.so as it is installed: alone, in C, and in one process with torch.

    scripts/install.sh /tmp/prefix && DAG_BIN=.build/release DAG_PREFIX=/tmp/prefix pytest Tests/python/test_dagcore.py
"""
import concurrent.futures
import ctypes
import gc
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import venv
import weakref
from pathlib import Path

import dagcore
import numpy
import pytest
from dagcore import _library
from PIL import Image
from redness import redness

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PREFIX = Path(os.environ["DAG_PREFIX"])
SMALL = {
    "model": str(ROOT / "models/tiny-sd"), "prompts": "tiny-sd", "epochs": 2, "steps": 3, "sample_batch_size": 4, "batches_per_epoch": 2,
    "train_batch_size": 4, "gradient_accumulation_steps": 1, "learning_rate": 1e-3, "beta": 10, "beta_annealing": 0, "precision": "fp32",
    "sample_every": 0, "seed": 5, "device": "cpu",
}


def run(*arguments, **environment):
    """A program's output; fails with it if the program does."""
    done = subprocess.run([str(a) for a in arguments], capture_output=True, text=True, env={**os.environ, **environment})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def compiled(source, *arguments):
    run("cc", "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", HERE / source, *arguments)


@pytest.mark.parametrize("chosen, count", [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "30000000000")])
def test_idle_threads_sleep(chosen, count):
    """libgomp itself says what it has read; the environment of Python stays as it was, but for the Python of rewards."""
    environment = {key: value for key, value in os.environ.items() if key not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "DAG_PYTHON")} | chosen
    environment |= {"PYTHONPATH": str(ROOT / "python"), "OMP_DISPLAY_ENV": "verbose"}
    code = (
        "import dagcore, os, sys; before = dict(os.environ); dagcore.version()\n"
        "assert os.environ == before | {'DAG_PYTHON': sys.executable}")
    shown = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert f"GOMP_SPINCOUNT = '{count}'" in shown.stderr


@pytest.fixture(autouse=True)
def ctrl_c():
    """Python's own handler, also where the tests run in the background of a shell, which has SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The LoRA of a run in Python."""
    folder = tmp_path_factory.mktemp("expected") / "run"
    with dagcore.Trainer(SMALL, rewards=[redness], output=folder) as trainer:
        trainer.run()
    return trainer.lora.read_bytes()


def test_the_library_is_the_installed_one():
    assert dagcore.library_path() == f"{PREFIX}/lib/libdagcore.so.1"
    assert dagcore.version() == dagcore.__version__
    assert dagcore.torch_version().startswith("2.")
    assert dagcore.default_config()["beta"] == 100


def test_epochs_metrics_and_pictures(tmp_path, expected):
    seen = []

    def watched(images, prompts, metadata):
        assert images.dtype == numpy.uint8 and images.ndim == 4 and not images.flags.writeable and not images.flags.owndata
        assert len(prompts) == len(images) and metadata == [{}] * len(images)
        seen.append(prompts)
        return redness(images, prompts, metadata)

    phases = set()
    reward = dagcore.Reward(watched, name="redness")
    with dagcore.Trainer(
        SMALL, rewards=[reward], output=tmp_path / "run", evaluation_samples=3, progress=lambda phase, done, total: phases.add(phase)
    ) as trainer:
        assert trainer.status == (0, 2, 0, 2, 0, 8, 32, 32)
        with pytest.raises(dagcore.OrderError, match="no optimiser step yet"):
            _ = trainer.metrics
        epochs = list(trainer)
        assert [epoch.index for epoch in epochs] == [0, 1] and phases == {"loading", "sampling", "training"}
        samples = epochs[1].samples
        assert samples.images.shape == (8, 32, 32, 3) and samples.epoch == 1 and list(samples.sample_ids) == list(range(8, 16))
        numpy.testing.assert_array_equal(samples.rewards, redness(samples.images, None, None))
        numpy.testing.assert_array_equal(samples.rewards, samples.scores["redness/score"])
        assert epochs[1].metrics["reward_mean"] == pytest.approx(samples.rewards.mean(), abs=1e-6)
        assert epochs[1].metrics == trainer.metrics == trainer.history[-1] and len(trainer.history) == 4
        lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
        assert lines == trainer.history
        pictures = trainer.sample(["a red boot", "a blue bag"], [7, 8])
        assert pictures.shape == (2, 32, 32, 3)
        # The same image whatever else is drawn with it, but for the last bit of a sum.
        numpy.testing.assert_allclose(trainer.sample(["a blue bag"], [8])[0].astype(int), pictures[1].astype(int), atol=1)
        assert trainer.evaluate()["evaluation_samples"] == 3
        assert trainer.config["seed"] == 5 and trainer.config["beta"] == 10
    assert trainer.lora.read_bytes() == expected
    assert {prompt for prompts in seen for prompt in prompts} >= set(samples.prompts)


def test_parts_and_resume_are_bit_equal(tmp_path, expected):
    with dagcore.Trainer(SMALL, rewards=[redness], output=tmp_path / "run") as trainer:
        trainer.roll_out()
        assert trainer.score().images.shape == (8, 32, 32, 3)
        assert trainer.update() is False
        trainer.save()
    with dagcore.Trainer.resume(tmp_path / "run", rewards=[redness]) as trainer:
        assert trainer.status.update == 1
        assert trainer.run_epoch().index == 0
        trainer.run()
    assert trainer.lora.read_bytes() == expected


def test_processes_share_a_run(tmp_path):
    code = '''
import sys
import dagcore
from redness import redness
settings = dict(max_rows_per_pass=4, train_batch_size=2, gradient_accumulation_steps=2, threads=1)
output, team = sys.argv[1], None if sys.argv[2] == "alone" else "launched"
with dagcore.Trainer({0}, rewards=[redness], output=output, team=team, **settings) as trainer:
    trainer.run()
'''.replace("{0}", repr(SMALL))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_PORT": str(port)}
    variables["PYTHONPATH"] = os.pathsep.join([str(HERE), str(ROOT / "python")])
    ranks = [
        subprocess.Popen([sys.executable, "-c", code, tmp_path / "team", "team"], env={**os.environ, "RANK": rank, **variables})
        for rank in "01"
    ]
    assert [rank.wait() for rank in ranks] == [0, 0]
    # Without `team` a trainer is alone, whatever variables are set.
    run(sys.executable, "-c", code, tmp_path / "alone", "alone", RANK="0", **variables)
    assert adapter(tmp_path / "team") == adapter(tmp_path / "alone")


def adapter(folder):
    return (folder / "pytorch_lora_weights.safetensors").read_bytes()


def test_ctrl_c_stops_cleanly(tmp_path, expected):
    calls = []

    def interrupted(images, prompts, metadata):
        calls.append(len(images))
        if len(calls) == 7:
            os.kill(os.getpid(), signal.SIGINT)
        return redness(images, prompts, metadata)

    handler = signal.getsignal(signal.SIGINT)
    with dagcore.Trainer(SMALL, rewards=[dagcore.Reward(interrupted, name="redness")], output=tmp_path / "run") as trainer:
        with pytest.raises(KeyboardInterrupt):
            trainer.run()
        assert signal.getsignal(signal.SIGINT) is handler
        assert trainer.status.epoch < 2
        trainer.run()
    assert trainer.lora.read_bytes() == expected


def test_ctrl_c_does_not_wait_for_a_reward_that_hangs(tmp_path):
    file = tmp_path / "hangs.py"
    file.write_text(
        "import pathlib, time\n\ndef score(images, prompts, metadata):\n    time.sleep(60)\n"
        "    pathlib.Path(__file__).with_suffix('.waited').touch()\n    return [0] * len(images)\n")
    threading.Timer(5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        dagcore.Trainer(SMALL, rewards=[f"{file},python={sys.executable},timeout=600"], output=tmp_path / "run")
    assert not file.with_suffix(".waited").exists()


def test_ctrl_c_does_not_wait_for_a_function(tmp_path):
    started, ended, waited = threading.Event(), threading.Event(), threading.Event()

    def waits(images, prompts, metadata):
        if started.is_set():
            ended.wait(60)
            waited.set()
        return redness(images, prompts, metadata)

    with dagcore.Trainer(SMALL, rewards=[waits], output=tmp_path / "run") as trainer:
        started.set()
        threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            trainer.run()
        assert not waited.is_set()
        ended.set()


ENDING = """
import atexit, ctypes, os, sys, threading, time
import dagcore, test_dagcore
seconds = 0
def slow(images, prompts, metadata):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.001)
    return test_dagcore.redness(images, prompts, metadata)
def children():
    lines = test_dagcore.run("ps", "-o", "pid=,comm=", "--ppid", os.getpid()).splitlines()
    return [line for line in lines if "dag-reward-work" in line]
trainer = dagcore.Trainer(test_dagcore.SMALL, epochs=1000, rewards=[slow, "libwarmth.so"], output=sys.argv[1])
{ending}
"""


@pytest.mark.parametrize(
    "ending",
    [
        "seconds = 1; trainer.roll_out()",
        "threading.Thread(target=trainer.run, daemon=True).start(); time.sleep(1)",
        # A trainer that nothing frees: its thread is ended while Python is.
        "atexit.unregister(dagcore._trainer._close_all); ctypes.pythonapi.Py_IncRef(ctypes.py_object(trainer)); seconds = 60; trainer.roll_out()",
        # What a child leaves is not the child's.
        "workers = children(); child = os.fork()\nif not child: sys.exit()\n"
        "assert os.waitpid(child, 0)[1] == 0; trainer.run_epoch(); assert children() == workers",
    ],
    ids=["scores", "daemon", "leak", "child"],
)
def test_python_may_end_at_any_time(tmp_path, ending):
    run(sys.executable, "-c", ENDING.format(ending=ending), tmp_path / "run", PYTHONPATH=f"{ROOT / 'python'}:{HERE}")


def test_pictures_are_lent_for_the_call(tmp_path):
    kept = []

    def keeps(images, prompts, metadata):
        kept.append(images[0])
        return redness(images, prompts, metadata)

    with pytest.raises(dagcore.DagError, match="reward keeps failed on samples 0 to 3: RuntimeError: .* keep images.copy"):
        dagcore.Trainer(SMALL, rewards=[keeps], output=tmp_path / "keeps")
    kept.clear()

    def litters(images, prompts, metadata):
        loop = [images]
        loop.append(loop)
        kept.append(images.copy())
        return redness(images, prompts, metadata)

    with dagcore.Trainer(SMALL, rewards=[litters], output=tmp_path / "litters") as trainer:
        trainer.roll_out()
    assert kept

    def raises(images, prompts, metadata):
        raise KeyError("no such colour")

    with pytest.raises(dagcore.DagError) as caught:
        dagcore.Trainer(SMALL, rewards=[raises], output=tmp_path / "raises")
    trace = caught.value.__cause__.__traceback__
    while trace:
        assert "images" not in trace.tb_frame.f_locals
        trace = trace.tb_next


def test_cancel_from_another_thread(tmp_path):
    started = threading.Event()
    with dagcore.Trainer(
        SMALL, epochs=1000, rewards=[redness], output=tmp_path / "run", progress=lambda *_: started.set()
    ) as trainer:
        started.clear()

        def stop():
            started.wait(60)
            with pytest.raises(dagcore.BusyError):
                trainer.save()
            trainer.cancel()

        thread = threading.Thread(target=stop)
        thread.start()
        with pytest.raises(dagcore.Cancelled, match="^cancelled$"):
            trainer.run()
        thread.join()


def test_what_callbacks_raise_comes_out(tmp_path):
    def broken(images, prompts, metadata):
        raise KeyError("no such colour")

    with pytest.raises(dagcore.DagError, match="reward broken failed on samples 0 to 3: KeyError: 'no such colour'") as caught:
        dagcore.Trainer(SMALL, rewards=[broken], output=tmp_path / "a")
    assert isinstance(caught.value.__cause__, KeyError)

    with pytest.raises(dagcore.DagError, match=r"it returned an array of shape \(3,\) for 4 images; it must be \(4, 1\)"):
        dagcore.Trainer(SMALL, rewards=[dagcore.Reward(lambda i, p, m: [1, 2, 3], name="short")], output=tmp_path / "b")

    def watcher(phase, done, total):
        if phase == "training":
            raise ZeroDivisionError("enough")

    with dagcore.Trainer(SMALL, rewards=[redness], output=tmp_path / "c", progress=watcher) as trainer:
        with pytest.raises(ZeroDivisionError, match="enough"):
            trainer.run()


def test_wrong_input_is_an_exception_that_says_what(tmp_path):
    out = tmp_path / "run"
    with pytest.raises(dagcore.InvalidError, match="unknown key 'modle'"):
        dagcore.Trainer(modle="m", output=out)
    with pytest.raises(ValueError, match="there is no reward"):
        dagcore.Trainer(SMALL, output=out)
    with pytest.raises(dagcore.InvalidError, match="/nowhere: no such folder"):
        dagcore.Trainer(SMALL, model="/nowhere", rewards=[redness], output=out)
    with pytest.raises(dagcore.InvalidError, match="no libmissing.so in"):
        dagcore.Trainer(SMALL, rewards=["libmissing.so"], output=out)
    with pytest.raises(ValueError, match="a reward's name is lower-case"):
        dagcore.Trainer(SMALL, rewards=[lambda *_: 0], output=out)
    with pytest.raises(dagcore.InvalidError, match="no run there"):
        dagcore.Trainer.resume(out)
    assert not out.exists()
    trainer = dagcore.Trainer(SMALL, rewards=[redness], output=out)
    with pytest.raises(ValueError, match="1 prompts came with 2 seeds"):
        trainer.sample(["a"], [1, 2])
    trainer.close()
    trainer.close()
    with pytest.raises(dagcore.InvalidError, match="trainer is NULL"):
        trainer.run()
    with pytest.raises(dagcore.DagError, match="is not empty"):
        dagcore.Trainer(SMALL, rewards=[redness], output=ROOT / "docs")


@pytest.mark.parametrize(
    "error, message, arguments",
    [
        (TypeError, "config is a mapping of settings, not list", dict(config=[1])),
        (TypeError, "setting beta: .* not object", dict(beta=object())),
        (ValueError, "setting beta: Out of range", dict(beta=float("nan"))),
        (ValueError, "setting beta: Out of range", dict(beta=1e400)),
        (ValueError, "setting beta: Out of range", dict(beta=numpy.float32("inf"))),
        (ValueError, "beta: '1e.300' is not a finite number, zero or more", dict(beta=1e300)),
        (ValueError, "learning_rate: '1e-60' is not a finite number, above zero", dict(learning_rate=1e-60)),
        (ValueError, "epochs: '1000000000000000000000' is not a whole number, from 1 to 1000000", dict(epochs=10**21)),
        (ValueError, "seed: '-1' is not a whole number from 0", dict(seed=-1)),
        (TypeError, "output is a path, not NoneType", dict(output=None)),
        (ValueError, "output has a NUL", dict(output="a\0b")),
        (TypeError, "progress is a function, not int", dict(progress=1)),
        (TypeError, "rewards is a sequence, not function", dict(rewards=redness)),
        (TypeError, 'team is "launched" or', dict(rewards=[redness], team=3)),
        (ValueError, "rank is from 0", dict(rewards=[redness], team=(-1, 2, "127.0.0.1", 29500))),
        (TypeError, "rewards is a sequence, not str", dict(rewards="libwarmth.so")),
        (TypeError, r"rewards\[1\] is a function, .* not int", dict(rewards=[redness, 7])),
        (ValueError, r"rewards\[0\] has a NUL", dict(rewards=["lib\0.so"])),
        (TypeError, "a reward's function", dict(rewards=[dagcore.Reward("redness")])),
        (ValueError, "reward redness: largest_batch is from 0 to 4294967295, not -1", dict(rewards=[dagcore.Reward(redness, largest_batch=-1)])),
        (TypeError, "reward redness: fingerprint is text, not int", dict(rewards=[dagcore.Reward(redness, fingerprint=1)])),
        (TypeError, "the name of an objective is text", dict(rewards=[dagcore.Reward(redness, objectives={1: "maximize"})])),
    ],
)
def test_arguments_that_are_wrong_are_named(tmp_path, error, message, arguments):
    with pytest.raises(error, match=message):
        dagcore.Trainer(**{"config": SMALL, "rewards": [redness], "output": tmp_path / "run", **arguments})
    assert not (tmp_path / "run").exists()


def test_arguments_of_numpy_and_paths(tmp_path):
    settings = {**SMALL, "model": Path(SMALL["model"]), "steps": numpy.int64(3), "learning_rate": numpy.float32(1e-3), "beta": numpy.int32(10)}
    with dagcore.Trainer(
        settings, rewards=(dagcore.Reward(redness, largest_batch=numpy.uint8(8)), PREFIX / "lib/dag/rewards/libwarmth.so"), output=tmp_path / "run"
    ) as trainer:
        numpy.testing.assert_array_equal(trainer.sample(("a red boot",), numpy.array([7])), trainer.sample(["a red boot"], iter([7])))
        for error, message, prompts, seeds in [
            (TypeError, "prompts is a sequence, not str", "ab", [1, 2]),
            (TypeError, r"prompts\[1\] is text, not NoneType", ["a", None], [1, 2]),
            (ValueError, r"prompts\[0\] has a NUL", ["a\0b"], [1]),
            (ValueError, r"prompts\[0\] is not Unicode text", ["\ud800"], [1]),
            (TypeError, "seeds is a sequence, not int", ["a"], 7),
            (TypeError, r"seeds\[0\] is a whole number, not float", ["a"], [1.5]),
            (ValueError, r"seeds\[0\] is from 0 to 18446744073709551615, not -1", ["a"], [-1]),
            (ValueError, "seeds is empty", [], []),
        ]:
            with pytest.raises(error, match=message):
                trainer.sample(prompts, seeds)


def test_several_objectives_and_plugins_mix(tmp_path):
    def colours(images, prompts, metadata):
        means = images.mean(axis=(1, 2)) / 255
        return {"red": means[:, 0], "blue": means[:, 2]}

    reward = dagcore.Reward(colours, objectives={"red": "maximize", "blue": "minimize"}, objective="blue", weight=0.5)
    with dagcore.Trainer(SMALL, epochs=1, rewards=[reward, "libwarmth.so,weight=2"], output=tmp_path / "run") as trainer:
        samples = trainer.run_epoch().samples
    assert {"colours/red", "colours/blue"} < set(samples.scores)
    warmth = next(values for name, values in samples.scores.items() if name.startswith("warmth/"))
    numpy.testing.assert_allclose(samples.rewards, 2 * warmth - 0.5 * samples.scores["colours/blue"], rtol=1e-5, atol=1e-6)


def test_nothing_is_left_behind(tmp_path):
    def descriptors():
        return len(os.listdir("/proc/self/fd"))

    def children():
        return run("ps", "-o", "comm=", "--ppid", os.getpid()).count("dag-reward-work")

    before = None
    for k in range(4):
        trainer = dagcore.Trainer(SMALL, rewards=[redness, "libwarmth.so"], output=tmp_path / str(k))
        trainer.roll_out()
        assert children() == 1
        trainer.close()
        assert children() == 0
        before = before or descriptors()
    assert descriptors() == before


@pytest.mark.parametrize("ending", ["whole", "reward", "progress", "cancel", "Ctrl-C"])
def test_a_trainer_that_nobody_has_is_freed(tmp_path, ending):
    """At once, by its references alone, whatever its last call raised."""
    calls = 0

    def score(images, prompts, metadata):
        nonlocal calls
        calls += 1
        if calls > 5 and ending == "reward":
            raise KeyError("no such colour")
        if calls == 6 and ending == "Ctrl-C":
            os.kill(os.getpid(), signal.SIGINT)
        return redness(images, prompts, metadata)

    def progress(phase, done, total):
        if phase == "training" and ending == "progress":
            raise ZeroDivisionError("enough")

    gc.disable()
    try:
        trainer = dagcore.Trainer(SMALL, rewards=[score], output=tmp_path / "run", progress=progress)
        raised = False
        try:
            if ending == "cancel":
                trainer.cancel()
            trainer.run()
        except (dagcore.DagError, ZeroDivisionError, KeyboardInterrupt):
            raised = True
        assert raised == (ending != "whole")
        (handle, gone) = (trainer._handle.value, weakref.ref(trainer))
        del trainer
        assert gone() is None
        assert _library.library().dag_trainer_cancel(handle) == 1, "the library still has it"
    finally:
        gc.enable()


def test_the_programs_in_c_and_swift_make_the_same_lora(tmp_path, expected):
    """One seed, one reward: Python, the C API and dag-train with a C plugin give the same file."""
    flags = run("pkg-config", "--cflags", "--libs", "dagcore", PKG_CONFIG_PATH=f"{PREFIX}/lib/pkgconfig").split()
    compiled("embed.c", "-o", tmp_path / "embed", *flags)
    run(tmp_path / "embed", json.dumps(SMALL), tmp_path / "c")
    assert (tmp_path / "c/pytorch_lora_weights.safetensors").read_bytes() == expected

    compiled("redness_plugin.c", "-shared", "-fPIC", "-fvisibility=hidden", f"-I{PREFIX}/include", "-o", tmp_path / "libredness.so")
    (tmp_path / "config.yaml").write_text(json.dumps(SMALL))
    run(PREFIX / "bin/dag-train", "--config", tmp_path / "config.yaml", "--reward-plugin", tmp_path / "libredness.so", "--output", tmp_path / "swift")
    assert (tmp_path / "swift/pytorch_lora_weights.safetensors").read_bytes() == expected


def test_a_reward_is_built_by_cmake(tmp_path):
    """What `dag-reward new` of the installed copy makes, by the lines of docs/reward-plugins.md."""
    run(PREFIX / "bin/dag-reward", "new", "bright", "--language", "c", "--folder", tmp_path / "bright")
    page = (ROOT / "docs/reward-plugins.md").read_text()
    version = run(PREFIX / "bin/dag-reward", "--version").strip()
    lines = page.split("```cmake\n")[1].split("```")[0].replace("find_package(DagReward", f"find_package(DagReward {version} EXACT")
    (tmp_path / "bright/CMakeLists.txt").write_text(lines)
    cmake = Path(sys.executable).with_name("cmake")
    run(cmake, "-S", tmp_path / "bright", "-B", tmp_path / "build", f"-DCMAKE_PREFIX_PATH={PREFIX}")
    run(cmake, "--build", tmp_path / "build")
    run(cmake, "--install", tmp_path / "build", DESTDIR=str(tmp_path / "root"))
    rewards = Path(f"{tmp_path}/root{PREFIX}/lib/dag/rewards")
    run(PREFIX / "bin/dag-reward", "check", "bright", DAG_REWARD_PATH=str(rewards))
    assert "libbright.so  bright 1.0.0: " in run(PREFIX / "bin/dag-reward", "list", DAG_REWARD_PATH=str(rewards))
    exported = run("nm", "-D", "--defined-only", rewards / "libbright.so").split()
    assert exported[2::3] == ["dag_reward_entry"], exported
    for question, answer in [("--cflags", f"-I{PREFIX}/include"), ("--variable=rewarddir", f"{PREFIX}/lib/dag/rewards")]:
        assert run("pkg-config", question, "dag-reward", PKG_CONFIG_PATH=f"{PREFIX}/lib/pkgconfig").strip() == answer


def test_the_examples_run(tmp_path):
    """Built against the installed copy, as their comments say."""
    shutil.copytree(ROOT / "examples/embed-c", tmp_path / "c")
    run("make", "-C", tmp_path / "c", PKG_CONFIG_PATH=f"{PREFIX}/lib/pkgconfig")
    said = run(tmp_path / "c/train", ROOT / "models/tiny-sd", tmp_path / "out-c", 1)
    assert "epoch 0: reward " in said and (tmp_path / "out-c/boot.ppm").read_bytes().startswith(b"P6 32 32 255\n")
    said = run(
        sys.executable, ROOT / "examples/embed-python/train.py", tmp_path / "out-python", "--epochs", 1, PYTHONPATH=str(ROOT / "python"))
    assert "epoch 0: reward " in said and (tmp_path / "out-python/pytorch_lora_weights.safetensors").exists()
    said = run(
        sys.executable, ROOT / "examples/embed-python/rewards.py", "libwarmth.so", ROOT / "models/tiny-sd/samples.png",
        PYTHONPATH=str(ROOT / "python"))
    assert len({line.split("[")[1].split("]")[0] for line in said.splitlines()}) == 1, said
    notebook = json.loads((ROOT / "examples/embed-python/blueness.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in cells), "the notebook is committed as it was run"
    assert sum("image/png" in output.get("data", {}) for cell in cells for output in cell["outputs"]) == 2


@pytest.mark.parametrize("isolation", ["", ",isolation=none"])
def test_a_reward_without_a_trainer(isolation):
    images = numpy.arange(4 * 8 * 6 * 3, dtype=numpy.uint8).reshape(4, 8, 6, 3)
    with dagcore.load_reward("libjpeg_compressibility.so" + isolation) as reward:
        assert reward.name == "jpeg_compressibility" and reward.objectives == {"compressibility": "maximize", "incompressibility": "maximize"}
        scores = reward.scores(images)
        assert reward(images) == scores["compressibility"] and scores["incompressibility"] == [-s for s in scores["compressibility"]]
        # In other forms, and of several sizes.
        assert reward([Image.fromarray(image) for image in images]) == scores["compressibility"]
        assert reward([images[0], images[1][:4], images[2]])[::2] == scores["compressibility"][:3:2]
        assert reward(images[:0]) == [] and reward(images[::2, ::-1, ::-1])[0] == reward(images[0][None, ::-1, ::-1])[0]


def test_what_a_reward_is_told(tmp_path):
    file = tmp_path / "told.py"
    file.write_text(
        "OBJECTIVES = {'length': 'minimize', 'n': 'maximize'}\n"
        "def score(images, prompts, metadata):\n"
        "    return {'length': [len(p) for p in prompts], 'n': [m.get('n', None) for m in metadata]}\n"
    )
    told = f"{file},python={sys.executable},on_failure=drop,weight=2"
    images = numpy.zeros((2, 4, 4, 3), numpy.uint8)
    with dagcore.load_reward(told) as reward:
        assert reward.objectives == {"length": "minimize", "n": "maximize"}
        assert reward(images, ["ä", "four"], [{"n": 1}, {"n": numpy.float32(2.5)}]) == [-2, -8]
        # No score of one objective is none of the image.
        lost = reward.scores(images, metadata=[{"n": 3}, {}])
        assert lost["n"][0] == 3 and numpy.isnan([lost["n"][1], lost["length"][1], reward(images, metadata=[{"n": 3}, {}])[1]]).all()
        for error, message, arguments in [
            (ValueError, "1 prompts came with 2 images", (images, ["a"])),
            (TypeError, r"prompts\[1\] is text, not int", (images, ["a", 1])),
            (TypeError, "prompts is a sequence, not str", (images, "ab")),
            (TypeError, r"metadata\[0\] is a mapping, not str", (images, None, ["{}", "{}"])),
            (ValueError, r"metadata\[0\]: Out of range", (images, None, [{"a": float("nan")}, {}])),
            (ValueError, r"images\[0\] is uint8 \[height, width, 3\] .* not float64 \[4, 4, 3\]", (images / 255,)),
            (ValueError, r"images\[0\] is .* not uint8 \[4, 3\]", (images[0],)),
        ]:
            with pytest.raises(error, match=message):
                reward(*arguments)
    reward.close()
    with pytest.raises(dagcore.InvalidError, match="scorer is NULL"):
        reward(images)
    with dagcore.load_reward(told.replace("drop", "fail")) as reward, pytest.raises(dagcore.DagError, match="sample 1"):
        reward([images[0][:2], images[0]], metadata=[{"n": 1}, {}])
    for specification, message in [("libmissing.so", "no libmissing.so in"), (told + ",normalize=true", "takes the statistics of a training")]:
        with pytest.raises(dagcore.InvalidError, match=message):
            dagcore.load_reward(specification)
    with pytest.raises(TypeError):
        dagcore.load_reward(3)


def test_rewards_of_several_threads_wait_for_each_other():
    images = numpy.zeros((2, 4, 4, 3), numpy.uint8)
    with dagcore.load_reward("libwarmth.so") as reward, concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(reward, [images] * 8)) == [reward(images)] * 8


def test_making_and_destroying_leaves_no_memory(tmp_path):
    flags = run("pkg-config", "--cflags", "--libs", "dagcore", PKG_CONFIG_PATH=f"{PREFIX}/lib/pkgconfig").split()
    compiled("embed.c", "-o", tmp_path / "embed", *flags)
    first, last = map(int, run(tmp_path / "embed", json.dumps(SMALL), tmp_path / "none", 1000).split())
    assert last - first < 1000, f"{first} KB after 10 cycles, {last} KB after 1000"


def test_starting_and_closing_leaves_no_memory(tmp_path):
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

    sizes = []
    for k in range(20):
        dagcore.Trainer(SMALL, rewards=[redness], output=tmp_path / str(k)).close()
        sizes.append(resident())
    assert sizes[-1] - sizes[4] < 10, f"MB after each: {sizes}"


def test_structs_are_those_of_the_header(tmp_path):
    """Sizes and offsets as a C compiler sees them."""
    structs = {
        "text": _library.Text, "error": _library.Error, "objective": _library.Objective, "images": _library.Images, "batch": _library.Batch,
        "result": _library.Result,
    }
    structs = {f"dag_reward_{name}": struct for name, struct in structs.items()}
    structs |= {
        "dag_callback": _library.Callback, "dag_observer": _library.Observer, "dag_status": _library.CStatus,
        "dag_samples": _library.CSamples, "dag_pictures": _library.Pictures,
    }
    declared = {id(s) for s in vars(_library).values() if isinstance(s, type) and issubclass(s, ctypes.Structure)}
    assert {id(s) for s in structs.values()} == declared - {id(ctypes.Structure)}
    lines, expected = [], []
    for name, struct in structs.items():
        lines.append(f"{name} %zu\\n\", sizeof({name}));")
        expected.append(f"{name} {ctypes.sizeof(struct)}")
        for field, _ in struct._fields_:
            lines.append(f"{name}.{field} %zu %zu\\n\", offsetof({name}, {field}), sizeof((({name} *)0)->{field}));")
            expected.append(f"{name}.{field} {getattr(struct, field).offset} {getattr(struct, field).size}")
    body = "\n".join(f'printf("{line}' for line in lines)
    (tmp_path / "layout.c").write_text(f"#include <dagcore.h>\n#include <stdio.h>\nint main(void) {{\n{body}\n}}\n")
    compiled(tmp_path / "layout.c", "-I", PREFIX / "include", "-o", tmp_path / "layout")
    assert run(tmp_path / "layout").splitlines() == expected


def test_where_the_library_is_looked_for(monkeypatch, tmp_path):
    monkeypatch.setattr(_library, "_candidates", lambda: ["/nowhere/libdagcore.so.1", str(tmp_path), "libz.so.1"])
    with pytest.raises(ImportError, match=rf"Tried: /nowhere/libdagcore.so.1: .*; {tmp_path}: .*; .*dag_api_version"):
        _library._load.__wrapped__()
    monkeypatch.undo()
    monkeypatch.delenv("DAGCORE_LIBRARY")
    places = _library._candidates()
    assert places[0].endswith("dagcore/lib/libdagcore.so.1") and places[-1] == f"{ROOT}/.build/release/libdagcore.so"

    built = f"{os.environ['DAG_BIN']}/libdagcore.so"
    code = "import dagcore; print(dagcore.version(), dagcore.library_path())"
    environment = {"DAGCORE_LIBRARY": built, "PYTHONPATH": str(ROOT / "python")}
    assert run(sys.executable, "-c", code, **environment).split() == [dagcore.__version__, built]
    with pytest.raises(AssertionError, match=f"ImportError: .*Tried: {built}: was not installed"):
        run(sys.executable, "-c", "import sys; sys.modules['torch'] = None; " + code, **environment)


def test_the_library_stays_loaded():
    code = """
import _ctypes, ctypes, sys
library = ctypes.CDLL(sys.argv[1])
_ctypes.dlclose(library._handle)
assert sys.argv[1] in open("/proc/self/maps").read()
"""
    run(sys.executable, "-c", code, f"{PREFIX}/lib/libdagcore.so.1")


TOGETHER = """
import sys, tempfile
sys.path[:0] = {path!r}
def of_torch():
    import torch
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.GroupNorm(2, 8), torch.nn.SiLU(), torch.nn.Flatten(), torch.nn.Linear(1568, 1))
    optimizer = torch.optim.AdamW(net.parameters())
    x = torch.randn(4, 3, 16, 16)
    for _ in range(3):
        loss = net(x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    try:
        torch.zeros(2) + torch.zeros(3)
    except RuntimeError:
        return loss.item()
def of_dag():
    import dagcore, test_dagcore
    with dagcore.Trainer(test_dagcore.SMALL, rewards=[test_dagcore.redness], output=tempfile.mkdtemp()) as trainer:
        trainer.run()
    return trainer.lora.read_bytes().hex()
for what in {order!r}:
    print(dict(torch=of_torch, dag=of_dag)[what]())
"""


def test_torch_in_the_same_process_changes_nothing(expected):
    """In either order. The venv's torch has another file, other threads and its own tables; another version is no different."""

    def outputs(*order):
        code = TOGETHER.format(path=[str(HERE), str(ROOT / "python")], order=order)
        return run(sys.executable, "-c", code).split()

    (alone,) = outputs("torch")
    assert outputs("torch", "dag", "torch") == [alone, expected.hex(), alone]
    assert outputs("dag", "torch", "dag") == [expected.hex(), alone, expected.hex()]


def test_a_wheel_carries_all_it_needs(tmp_path, expected):
    run(ROOT / "scripts/wheel.sh", tmp_path / "wheels", PYTHON=sys.executable)
    (wheel,) = (tmp_path / "wheels").glob("dagcore-*-py3-none-linux_*.whl")
    environment = venv.EnvBuilder(with_pip=True, system_site_packages=False)
    environment.create(tmp_path / "venv")
    python = tmp_path / "venv/bin/python"
    run(python, "-m", "pip", "install", "--quiet", wheel)
    code = f"""
import json, dagcore
{(HERE / "redness.py").read_text()}
assert dagcore.library_path().startswith({str(tmp_path)!r})
with dagcore.Trainer(json.loads({json.dumps(SMALL)!r}), rewards=[redness], output={str(tmp_path / "run")!r}) as trainer:
    trainer.run()
"""
    # Sums depend on the number of threads in their last bits.
    threads = {key: value for key, value in os.environ.items() if key == "OMP_NUM_THREADS"}
    subprocess.run([python, "-c", code], check=True, env={"PATH": "/usr/bin:/bin", **threads})
    assert (tmp_path / "run/pytorch_lora_weights.safetensors").read_bytes() == expected


def test_uninstalling_removes_what_was_installed(tmp_path):
    prefix = tmp_path / "prefix"
    (prefix / "bin").mkdir(parents=True)
    run(ROOT / "scripts/install.sh", prefix)
    # An older version's file goes with the next one.
    (prefix / "lib/libold.so").touch()
    with (prefix / "lib/dag/manifest").open("a") as manifest:
        manifest.write("lib/libold.so\n")
    run(ROOT / "scripts/install.sh", prefix)
    assert not (prefix / "lib/libold.so").exists()
    mine = prefix / "lib/dag/rewards/libmine.so"
    mine.touch()
    run(ROOT / "scripts/install.sh", "--uninstall", prefix)
    assert set(prefix.rglob("*")) == {prefix / "bin", mine, *list(mine.parents)[:3]}

    run(ROOT / "scripts/install.sh", tmp_path / "new")
    run(ROOT / "scripts/install.sh", "--uninstall", tmp_path / "new")
    assert not (tmp_path / "new").exists()
