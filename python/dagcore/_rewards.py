"""Python functions as rewards."""
from __future__ import annotations

import ctypes
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy

from . import _library as c

Score = Callable[[numpy.ndarray, list[str], list[dict]], Any]


@dataclass
class Reward:
    """A function as a reward, and how it is used.

    `function(images, prompts, metadata)` gets uint8 [n, height, width, 3] in sRGB, which is the library's own memory, read-only and valid
    during the call; n prompts; n dicts. It returns n numbers, or for several objectives a dict of n numbers each, or [n, objectives].
    It is called on another thread than the trainer, one call at a time.
    """

    function: Score
    #: Lower-case words joined by `_`, a key in metrics; the function's own name if it is empty.
    name: str = ""
    #: Factor in the sum over rewards.
    weight: float = 1.0
    #: Name and direction, "maximize" or "minimize"; the first is trained, or the one named in `objective`.
    objectives: Mapping[str, str] = field(default_factory=lambda: {"score": "maximize"})
    objective: str | None = None
    #: Shift and scale by running statistics.
    normalize: bool = False
    #: "fail", "drop" or "impute:NUMBER": what becomes of pictures whose score is not finite.
    on_failure: str = "fail"
    #: What the scores depend on: a run is resumed only with rewards of the same fingerprint.
    fingerprint: str = ""
    #: Whether equal pictures get equal scores, which is tried before training.
    deterministic: bool = True
    #: Pictures a call takes at most; 0: any number.
    largest_batch: int = 0

    def callback(self, failed: Callable[[BaseException], None]) -> c.Callback:
        """The C side of it, which has to be kept as long as it is used. `failed` is told what the function raises."""
        name = self.name or getattr(self.function, "__name__", "reward")
        if not re.fullmatch("[a-z][a-z0-9_]*", name):
            raise ValueError(f"a reward's name is lower-case letters, digits and _, not {name!r}: name it with dagcore.Reward(function, name=...)")
        if not self.objectives or not set(self.objectives.values()) <= {"maximize", "minimize"}:
            raise ValueError(f"reward {name}: objectives={self.objectives!r} must map names to maximize or minimize")
        names = list(self.objectives)
        settings = f"weight={self.weight},normalize={str(self.normalize).lower()},on_failure={self.on_failure}"
        if self.objective is not None:
            settings += f",objective={self.objective}"

        def score(_context, batch, result, error):
            try:
                scores = _scores(self.function(*_arguments(batch.contents)), batch.contents.count, names)
                out = numpy.ctypeslib.as_array(result.contents.scores, shape=scores.shape)
                out[...] = scores
                return 0
            except BaseException as exception:  # also SystemExit and the like: nothing may cross into C
                failed(exception)
                text = f"{type(exception).__name__}: {exception}".replace("\n", " ").encode()[: error.contents.capacity - 1]
                ctypes.memmove(error.contents.message, text + b"\0", len(text) + 1)
                return 5

        objectives = (c.Objective * len(names))(
            *(
                c.Objective(ctypes.sizeof(c.Objective), 1 if direction == "maximize" else -1, key.encode(), b"")
                for key, direction in self.objectives.items()
            )
        )
        return c.Callback(
            struct_size=ctypes.sizeof(c.Callback),
            flags=int(self.deterministic),
            name=name.encode(),
            settings=settings.encode(),
            fingerprint=self.fingerprint.encode(),
            largest_batch=self.largest_batch,
            objective_count=len(names),
            objectives=objectives,
            score=c.ScoreFunction(score),
        )


def _arguments(batch: c.Batch) -> tuple[numpy.ndarray, list[str], list[dict]]:
    pictures, n = batch.images.contents, batch.count
    size = pictures.strides[0] * n
    memory = (ctypes.c_uint8 * size).from_address(pictures.data)
    images = numpy.ndarray((n, pictures.height, pictures.width, 3), numpy.uint8, memory, strides=tuple(pictures.strides))
    images.flags.writeable = False
    return images, [str(batch.prompts[k]) for k in range(n)], [json.loads(str(batch.metadata[k])) for k in range(n)]


def _scores(answer: Any, count: int, names: Sequence[str]) -> numpy.ndarray:
    """[count, objectives] of what a function returned."""
    if isinstance(answer, Mapping):
        if set(answer) != set(names):
            raise ValueError(f"the scores are named {sorted(answer)}, not {sorted(names)}")
        answer = numpy.stack([numpy.asarray(answer[name], numpy.float32).reshape(-1) for name in names], axis=1)
    scores = numpy.asarray(answer, numpy.float32)
    if scores.ndim == 1:
        scores = scores[:, None]
    if scores.shape != (count, len(names)):
        raise ValueError(f"scores of shape {scores.shape} for {count} pictures and {len(names)} objectives")
    return scores
