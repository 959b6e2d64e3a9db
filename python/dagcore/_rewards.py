"""Python functions as rewards."""
from __future__ import annotations

import ctypes
import gc
import json
import re
import traceback
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy

from . import _arguments as arguments
from . import _library as c
from ._scores import scores_of

Score = Callable[[numpy.ndarray, list[str], list[dict]], Any]


@dataclass
class Reward:
    """A function as a reward, and how it is used.

    `function(images, prompts, metadata)` gets uint8 [n, height, width, 3] in sRGB, which is the library's own memory, read-only and valid
    during the call; n prompts; n dicts. It returns n numbers, or for several objectives a dict of n numbers each, or [n, objectives].
    It is called on another thread than the trainer, one call at a time. To keep images it takes a copy: it has failed if the array, or
    anything that shares its memory, is still there after the call.
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
    #: "fail", "drop" or "impute:NUMBER": the treatment of images whose score is not finite.
    on_failure: str = "fail"
    #: The version of the scores: a run is resumed only with rewards of the same fingerprint.
    fingerprint: str = ""
    #: Whether equal images get equal scores; the self-checks before training try it.
    deterministic: bool = True
    #: Most images in a call; 0: any number.
    largest_batch: int = 0

    def callback(self, failed: Callable[[BaseException], None]) -> c.Callback:
        """The C struct, to be kept as long as it is in use. `failed` receives what the function raises."""
        if not callable(self.function):
            raise TypeError(f"a reward's function is called with images: {self.function!r} cannot be")
        name = self.name or getattr(self.function, "__name__", "reward")
        named = arguments.text(name, "a reward's name")
        if not re.fullmatch("[a-z][a-z0-9_]*", name):
            raise ValueError(f"a reward's name is lower-case letters, digits and _, not {name!r}: name it with dagcore.Reward(function, name=...)")
        directions = {"maximize": 1, "minimize": -1}
        if not isinstance(self.objectives, Mapping) or not self.objectives or not all(d in [*directions] for d in self.objectives.values()):
            raise ValueError(f"reward {name}: objectives={self.objectives!r} must map names to maximize or minimize")
        names = list(self.objectives)
        settings = f"weight={self.weight},normalize={str(self.normalize).lower()},on_failure={self.on_failure}"
        if self.objective is not None:
            settings += f",objective={self.objective}"
        function = self.function

        def score(_context, batch, result, error):
            try:
                scores = _ask(function, batch.contents, names)
                out = numpy.ctypeslib.as_array(result.contents.scores, shape=scores.shape)
                out[...] = scores
                return 0
            except BaseException as exception:  # also SystemExit and the like: nothing may cross into C
                failed(exception)
                text = f"{type(exception).__name__}: {exception}".replace("\n", " ").encode(errors="replace")[: error.contents.capacity - 1]
                ctypes.memmove(error.contents.message, text + b"\0", len(text) + 1)
                return 5

        objectives = (c.Objective * len(names))(
            *(
                c.Objective(
                    ctypes.sizeof(c.Objective), directions[direction], arguments.text(key, f"reward {name}: the name of an objective"), b"")
                for key, direction in self.objectives.items()
            )
        )
        return c.Callback(
            struct_size=ctypes.sizeof(c.Callback),
            flags=int(self.deterministic),
            name=named,
            settings=arguments.text(settings, f"reward {name}: a setting"),
            fingerprint=arguments.text(self.fingerprint, f"reward {name}: fingerprint"),
            largest_batch=arguments.integer(self.largest_batch, f"reward {name}: largest_batch", 32),
            objective_count=len(names),
            objectives=objectives,
            score=c.ScoreFunction(score),
        )


def _ask(function: Score, batch: c.Batch, names: Sequence[str]) -> numpy.ndarray:
    """Scores [count, objectives] of a function. Its images are lent, so this checks that nothing keeps them afterwards."""
    pictures, n = batch.images.contents, batch.count
    memory = (ctypes.c_uint8 * (pictures.strides[0] * n)).from_address(pictures.data)
    lent = weakref.ref(memory)
    images = numpy.ndarray((n, pictures.height, pictures.width, 3), numpy.uint8, memory, strides=tuple(pictures.strides))
    images.flags.writeable = False
    del memory
    prompts, metadata = [[str(texts[k]) for k in range(n)] for texts in (batch.prompts, batch.metadata)]
    try:
        scores = scores_of(function(images, prompts, [json.loads(text) for text in metadata]), n, names)
    except BaseException as exception:
        _forget_frames(exception)
        raise
    finally:
        del images
    if lent() is not None:
        gc.collect()  # garbage may still hold them
    if lent() is not None:
        raise RuntimeError("the function kept its images, which are lent for the call: keep images.copy(), and nothing that shares their memory")
    return scores


def _forget_frames(exception: BaseException | None) -> None:
    """Empties the frames of an exception, which hold images. Lines and messages stay."""
    while exception is not None:
        traceback.clear_frames(exception.__traceback__)
        exception = exception.__cause__ or exception.__context__
