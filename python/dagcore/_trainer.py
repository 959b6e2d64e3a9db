"""The trainer."""
from __future__ import annotations

import atexit
import contextlib
import ctypes
import json
import logging
import os
import pathlib
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy

from . import _arguments as arguments
from . import _library as c
from ._errors import BusyError, Cancelled, DagError
from ._rewards import Reward, Score

_LOG = logging.getLogger("dagcore")
_PHASES = {1: "sampling", 2: "training", 3: "evaluating", 4: "loading"}
#: "launched", or rank, count, host and port.
Team = str | tuple[int, int, str, int]


class Status(NamedTuple):
    """The progress of a run."""

    #: Epochs that are complete, and those of the run.
    epoch: int
    epochs: int
    #: Optimiser steps done in the epoch under way, those of an epoch, and those done in all.
    update: int
    updates_per_epoch: int
    step: int
    trajectories_per_epoch: int
    #: Of an image, pixels.
    height: int
    width: int


@dataclass(frozen=True)
class Samples:
    """The n images of an epoch's trajectories and their scores, as copies."""

    epoch: int
    #: uint8 [n, height, width, 3].
    images: numpy.ndarray
    prompts: list[str]
    #: uint64 [n]: the trajectories' numbers over the run, and their generators' seeds.
    sample_ids: numpy.ndarray
    seeds: numpy.ndarray
    #: float32 [n]: the score that is trained on; NaN for a trajectory that was dropped.
    rewards: numpy.ndarray
    #: By name, such as "redness/score", float32 [n].
    scores: dict[str, numpy.ndarray]


@dataclass(frozen=True)
class Epoch:
    """A complete epoch."""

    index: int
    #: The line of metrics.jsonl of each optimiser step.
    steps: list[dict[str, Any]]
    #: The trainer's `samples` at its end.
    samples: Samples

    @property
    def metrics(self) -> dict[str, Any]:
        """The metrics of the last optimiser step."""
        return self.steps[-1] if self.steps else {}


class Trainer(c.Handle):
    """Post-trains a diffusion model so that it samples in proportion to a reward.

    All settings are those of dag-train's YAML file (docs/configuration.md, `dagcore.default_config()`), in a mapping or as keywords.
    The model is loaded, tried, and its sample sheet drawn before the constructor returns. Iterating trains epoch by epoch:

        for epoch in dagcore.Trainer(model="models/tiny-sd", prompts="tiny-sd", rewards=[f], output="runs/f"): ...

    Ctrl-C ends a call at the next sampling step or pass with KeyboardInterrupt; the trainer stays usable, and the same call goes on.
    Not for several threads at once, but for `cancel`.

    :param config: settings.
    :param rewards: functions, `dagcore.Reward`s, or what --reward-plugin takes, such as "libwarmth.so,weight=0.5" or a path.
    :param output: the folder of the run, new or empty.
    :param progress: called with the phase ("loading", "sampling", "training", "evaluating"), how much is done and of how much.
    :param team: the processes that share the work, each of which makes this trainer and the same calls in the same order, but for `sample`:
        "launched" for those that torchrun, mpirun or srun has started, or (rank, count, host, port), where rank 0's machine has the
        address. None: this process alone, whatever launched it.
    :param settings: settings again, which win.
    """

    _kind = "trainer"

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        output: str | os.PathLike[str],
        rewards: Sequence[Score | Reward | str | os.PathLike[str]] = (),
        progress: Callable[[str, int, int], None] | None = None,
        team: Team | None = None,
        **settings: Any,
    ) -> None:
        text, folder = arguments.settings(config, settings), arguments.path(output, "output")
        self._open(output, rewards, progress, team, lambda *out: c.library().dag_trainer_create(text, folder, *out))

    @classmethod
    def resume(
        cls,
        output: str | os.PathLike[str],
        *,
        rewards: Sequence[Score | Reward] = (),
        progress: Callable[[str, int, int], None] | None = None,
        team: Team | None = None,
        **settings: Any,
    ) -> Trainer:
        """Goes on with the run in a folder, from its newest checkpoint.

        :param rewards: the functions among its rewards, again; plugins are in its settings.
        :param team: as for a new run; each process reads the folder's config.yaml, and rank 0 the checkpoint.
        :param settings: those that are to be others than before.
        """
        trainer = cls.__new__(cls)
        text, folder = arguments.settings(None, settings) if settings else None, arguments.path(output, "output")
        trainer._open(output, rewards, progress, team, lambda *out: c.library().dag_trainer_resume(folder, text, *out))
        return trainer

    def _open(self, output, rewards, progress, team, make) -> None:
        if progress is not None and not callable(progress):
            raise TypeError(f"progress is a function, not {type(progress).__name__}")
        rewards = arguments.items(rewards, "rewards")
        place = None if team is None else arguments.team(team)
        self._handle = ctypes.c_void_p()
        self._output = pathlib.Path(os.fsdecode(output))
        self._watch = _Watch(progress)
        c.check(make(ctypes.byref(self._handle)))
        _open_trainers.add(self)
        try:
            self._callbacks = []
            for k, reward in enumerate(rewards):
                if isinstance(reward, (str, os.PathLike)):
                    specification = arguments.text(os.fspath(reward), f"rewards[{k}]")
                    c.check(c.library().dag_trainer_add_plugin(self._handle, specification))
                    continue
                if not isinstance(reward, Reward) and not callable(reward):
                    raise TypeError(f"rewards[{k}] is a function, a dagcore.Reward, text or a path, not {type(reward).__name__}")
                callback = (reward if isinstance(reward, Reward) else Reward(reward)).callback(self._watch.score_failed)
                c.check(c.library().dag_trainer_add_callback(self._handle, ctypes.byref(callback)))
                self._callbacks.append(callback)
            self._observer = self._watch.observer()
            c.check(c.library().dag_trainer_set_observer(self._handle, ctypes.byref(self._observer)))
            if place is not None:
                c.check(c.library().dag_trainer_join(self._handle, *place))
            self._call("start")
        except BaseException:
            self.close()
            raise

    def _call(self, name: str, *parameters) -> None:
        """Makes a call that may take long: Ctrl-C cancels it, and it raises what callbacks raised."""
        self._watch.forget()
        function = getattr(c.library(), f"dag_trainer_{name}")
        with _Interruptible(self.cancel) as interruption:
            status = function(self._handle, *parameters)
            message = c.library().dag_last_error() if status else b""
        if interruption.signal is not None:
            interruption.deliver()
        # No variable here holds the exception: it would hold this frame, and so the trainer, in a cycle.
        self._watch.raise_for(status, message)

    # Training

    def run(self) -> None:
        """Trains until the last epoch, saving as it goes, and also when it ends early."""
        self._call("run")

    def run_epoch(self) -> Epoch:
        """Trains one epoch, or the rest of the one under way."""
        first = len(self._watch.steps)
        self._call("run_epoch")
        return Epoch(self.status.epoch - 1, self._watch.steps[first:], self.samples)

    def __iter__(self) -> Iterator[Epoch]:
        """Trains epoch by epoch, to the last."""
        while self.status.epoch < self.status.epochs:
            yield self.run_epoch()

    def roll_out(self) -> None:
        """Samples an epoch's trajectories; rewards are asked meanwhile."""
        self._call("roll_out")

    def score(self) -> Samples:
        """Waits for the scores of the trajectories."""
        self._call("score")
        return self.samples

    def update(self) -> bool:
        """Makes one optimiser step. Returns whether it was the epoch's last."""
        done = ctypes.c_int32()
        self._call("update", ctypes.byref(done))
        return bool(done.value)

    def save(self) -> None:
        """Writes the LoRA and a checkpoint, whatever the settings say."""
        self._call("save")

    def cancel(self) -> None:
        """Ends the call that another thread is in, or else the next one, with `Cancelled`."""
        c.check(c.library().dag_trainer_cancel(self._handle))

    # Looking in

    @property
    def status(self) -> Status:
        """The progress of the run."""
        status = c.CStatus(struct_size=ctypes.sizeof(c.CStatus))
        c.check(c.library().dag_trainer_status(self._handle, ctypes.byref(status)))
        return Status(*(getattr(status, name) for name in Status._fields))

    def _text(self, name: str) -> dict[str, Any]:
        json_text = ctypes.c_char_p()
        self._call(name, ctypes.byref(json_text))
        return json.loads(json_text.value or b"{}")

    @property
    def config(self) -> dict[str, Any]:
        """All settings, as used."""
        return self._text("config")

    @property
    def metrics(self) -> dict[str, Any]:
        """The latest optimiser step's line of metrics.jsonl."""
        return self._text("metrics")

    @property
    def history(self) -> list[dict[str, Any]]:
        """The lines of all optimiser steps that this object made."""
        return list(self._watch.steps)

    @property
    def samples(self) -> Samples:
        """The images of the latest epoch that was scored."""
        found = c.CSamples(struct_size=ctypes.sizeof(c.CSamples))
        c.check(c.library().dag_trainer_samples(self._handle, ctypes.byref(found)))
        n, m = found.count, found.objective_count

        def copied(pointer, *shape: int) -> numpy.ndarray:
            return numpy.ctypeslib.as_array(pointer, shape=shape).copy()

        scores = copied(found.scores, n, m)
        return Samples(
            epoch=found.epoch,
            images=copied(found.images, n, found.height, found.width, 3),
            prompts=[str(found.prompts[k]) for k in range(n)],
            sample_ids=copied(found.sample_ids, n),
            seeds=copied(found.seeds, n),
            rewards=copied(found.rewards, n),
            scores={found.objectives[j].decode(): scores[:, j] for j in range(m)},
        )

    def sample(self, prompts: Sequence[str] | None, seeds: Sequence[int]) -> numpy.ndarray:
        """Draws images with the current LoRA, uint8 [n, height, width, 3]; image k depends on prompt k and seed k alone.

        :param prompts: as many as seeds; None for a model without text.
        """
        numbers = [arguments.integer(seed, f"seeds[{k}]", 64) for k, seed in enumerate(arguments.items(seeds, "seeds"))]
        n, texts = len(numbers), None
        if not n:
            raise ValueError("seeds is empty: give one for each image")
        if prompts is not None:
            encoded = [arguments.text(prompt, f"prompts[{k}]") for k, prompt in enumerate(arguments.items(prompts, "prompts"))]
            if len(encoded) != n:
                raise ValueError(f"{len(encoded)} prompts came with {n} seeds: give one of each for each image")
            texts = (ctypes.c_char_p * n)(*encoded)
        pictures = c.Pictures(struct_size=ctypes.sizeof(c.Pictures))
        self._call("sample", texts, (ctypes.c_uint64 * n)(*numbers), n, ctypes.byref(pictures))
        return numpy.ctypeslib.as_array(pictures.images, shape=(n, pictures.height, pictures.width, 3)).copy()

    def evaluate(self) -> dict[str, Any]:
        """Scores images of fixed prompts and seeds, as many as the setting `evaluation_samples` says."""
        return self._text("evaluate")

    @property
    def output(self) -> pathlib.Path:
        """The folder of the run."""
        return self._output

    @property
    def lora(self) -> pathlib.Path:
        """The LoRA's file, which diffusers loads."""
        return self._output / "pytorch_lora_weights.safetensors"

    # The end

    def close(self) -> None:
        """Frees the model and ends the rewards' processes; unsaved progress is lost. May be called again."""
        super().close()
        _open_trainers.discard(self)


_open_trainers: weakref.WeakSet[Trainer] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Closes all trainers at exit: a thread that returned to a Python that has ended would be ended, so no reward may run by then."""
    for trainer in list(_open_trainers):
        while trainer in _open_trainers:
            try:
                trainer.close()
            except BusyError:  # in a daemon thread
                with contextlib.suppress(DagError):
                    trainer.cancel()
                time.sleep(0.01)


def _forget_all() -> None:
    """Forgets all trainers in a forked child, which has neither their threads nor the right to end their rewards."""
    for trainer in list(_open_trainers):
        trainer._handle = ctypes.c_void_p()
    _open_trainers.clear()


os.register_at_fork(after_in_child=_forget_all)


class _Watch:
    """Callbacks of the library. Exceptions cannot cross it: they are kept, and raised when the call has returned.

    The trainer has it, and it does not know the trainer: so a trainer without references is freed at once.
    """

    def __init__(self, progress: Callable[[str, int, int], None] | None) -> None:
        self._progress = progress
        self.steps: list[dict[str, Any]] = []
        self.forget()

    def forget(self) -> None:
        """Prepares for a call."""
        self._raised: BaseException | None = None
        self._scoring: BaseException | None = None

    def observer(self) -> c.Observer:
        """The C struct, to be kept as long as it is in use."""
        return c.Observer(
            struct_size=ctypes.sizeof(c.Observer),
            progress=c.ProgressFunction(lambda _, phase, done, total: self._notify(self._progress, _PHASES.get(phase, ""), done, total)),
            log=c.LogFunction(lambda _, level, line: self._notify(_LOG.log, logging.WARNING if level == 2 else logging.INFO, "%s", line.decode())),
            step=c.StepFunction(lambda _, line: self._notify(self.steps.append, json.loads(line))),
        )

    def _notify(self, function, *parameters) -> int:
        try:
            if function is not None:
                function(*parameters)
        except BaseException as exception:
            self._raised = self._raised or exception
        return self._raised is not None

    def score_failed(self, exception: BaseException) -> None:
        self._scoring = exception

    def raise_for(self, status: int, message: bytes) -> None:
        """Ends a call: raises the kept exception, or else the one for the call's status."""
        try:
            if self._raised is not None:
                raise self._raised
            if status:
                raise c.failure(status, message) from (None if c.BY_STATUS.get(status) is Cancelled else self._scoring)
        finally:
            self.forget()


class _Interruptible:
    """Holds Ctrl-C while in C, where Python cannot raise: it cancels instead, and is delivered afterwards.

    Python runs handlers between two of its own instructions, so it does that when the library reports its progress.
    """

    def __init__(self, cancel: Callable[[], None]) -> None:
        self._cancel = cancel
        self.signal: int | None = None
        self._frame = None

    def __enter__(self) -> _Interruptible:
        self._before = None
        if threading.current_thread() is threading.main_thread() and callable(signal.getsignal(signal.SIGINT)):
            self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def _handle(self, number, frame) -> None:
        self.signal, self._frame = number, frame
        self._cancel()

    def __exit__(self, *_) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def deliver(self) -> None:
        """Calls the handler that was installed before; Python's own raises KeyboardInterrupt."""
        frame, self._frame = self._frame, None  # it may be the one that holds this object
        self._before(self.signal, frame)
