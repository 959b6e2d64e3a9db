"""Rewards without a trainer."""
from __future__ import annotations

import ctypes
import json
import os
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy

from . import _arguments as arguments
from . import _library as c


class LoadedReward(c.Handle):
    """A reward that is ready to score: see `load_reward`. Calls from several threads wait for each other."""

    _kind = "scorer"

    #: The reward's name.
    name: str
    #: Name and direction of each objective, "maximize" or "minimize"; the first is `__call__`'s unless `objective=` named another.
    objectives: dict[str, str]

    def __init__(self, specification: str | os.PathLike[str]) -> None:
        text = arguments.text(os.fspath(specification), "a reward")
        self._handle = ctypes.c_void_p()
        c.check(c.library().dag_scorer_create(text, ctypes.byref(self._handle)))
        _loaded.add(self)
        found = ctypes.c_char_p()
        c.check(c.library().dag_scorer_info(self._handle, ctypes.byref(found)))
        info = json.loads(found.value or b"{}")
        self.name = info["name"]
        self.objectives = {objective["name"]: objective["direction"] for objective in info["objectives"]}

    def __call__(self, images: Any, prompts: Sequence[str] | None = None, metadata: Sequence[Mapping[str, Any]] | None = None) -> list[float]:
        """Scores images: the trained objective, more of which is better; NaN for an image that is dropped (`on_failure=drop`).

        :param images: uint8 [n, height, width, 3] in sRGB; or n images of PIL or arrays uint8 [height, width, 3], of any sizes.
        :param prompts: n texts; None: empty ones.
        :param metadata: n mappings that JSON can hold; None: empty ones.
        """
        return self._ask(images, prompts, metadata)[0].tolist()

    def scores(
        self, images: Any, prompts: Sequence[str] | None = None, metadata: Sequence[Mapping[str, Any]] | None = None
    ) -> dict[str, list[float]]:
        """Scores images by every objective, as the reward gives them: NaN where there is none. The parameters are those of a call."""
        scores = self._ask(images, prompts, metadata)[1]
        return {name: scores[:, k].tolist() for k, name in enumerate(self.objectives)}

    def _ask(self, images, prompts, metadata) -> tuple[numpy.ndarray, numpy.ndarray]:
        pictures = _pictures(images)
        n, m = len(pictures), len(self.objectives)
        texts = [arguments.text(text, f"prompts[{k}]") for k, text in enumerate(_items(prompts, "prompts", n, ""))]
        objects = [arguments.json_object(value, f"metadata[{k}]") for k, value in enumerate(_items(metadata, "metadata", n, {}))]
        rewards, scores = numpy.empty(n, numpy.float32), numpy.empty((n, m), numpy.float32)
        # A batch for each size.
        for shape in dict.fromkeys(picture.shape for picture in pictures):
            places = [k for k in range(n) if pictures[k].shape == shape]
            rewards[places], scores[places] = self._ask_for(
                numpy.stack([pictures[k] for k in places]), [texts[k] for k in places], [objects[k] for k in places], places)
        return rewards, scores

    def _ask_for(self, pixels, texts, objects, numbers) -> tuple[Any, Any]:
        """Scores images of one size, which errors name by their numbers."""
        n, height, width, _ = pixels.shape
        ids = (ctypes.c_uint64 * n)(*numbers)
        images = c.Images(ctypes.sizeof(c.Images), 1, pixels.ctypes.data, height, width, pixels.strides)
        batch = c.Batch(ctypes.sizeof(c.Batch), n, ctypes.pointer(images), _lent(texts), _lent(objects), ids, ids)
        rewards, scores = (ctypes.c_float * n)(), (ctypes.c_float * len(self.objectives) * n)()
        c.check(c.library().dag_scorer_score(self._handle, ctypes.byref(batch), rewards, ctypes.cast(scores, ctypes.POINTER(ctypes.c_float))))
        return rewards, scores

    def close(self) -> None:
        """Ends the reward's process. May be called again."""
        super().close()


def load_reward(specification: str | os.PathLike[str]) -> LoadedReward:
    """Loads a reward, for other trainers: nothing is trained here, and no diffusion model loaded.

        hps = dagcore.load_reward("libhps.so,weights=HPS_v2.1_compressed.pt")
        hps(images, prompts)                       # n numbers, more is better

    It works in a process of its own, which a crash or a hang ends and not this one; `isolation=none` has it work in this one.

    :param specification: what --reward-plugin takes, such as "libwarmth.so", "./my_reward.py,python=venv/bin/python" or a path.
    """
    return LoadedReward(specification)


def _pictures(images: Any) -> list[numpy.ndarray]:
    """Images as arrays [height, width, 3]."""
    pictures = [numpy.asarray(image.convert("RGB") if hasattr(image, "convert") else image) for image in arguments.items(images, "images")]
    for k, picture in enumerate(pictures):
        if picture.dtype != numpy.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
            raise ValueError(f"images[{k}] is uint8 [height, width, 3] or an image of PIL, not {picture.dtype} {[*picture.shape]}")
    return pictures


def _items(values: Any, name: str, count: int, missing: Any) -> list[Any]:
    found = [missing] * count if values is None else arguments.items(values, name)
    if len(found) != count:
        raise ValueError(f"{len(found)} {name} came with {count} images: give one of each for each image")
    return found


def _lent(texts: list[bytes]) -> Any:
    return (c.Text * len(texts))(*(c.Text(ctypes.cast(ctypes.c_char_p(text), ctypes.c_void_p), len(text)) for text in texts))


_loaded: weakref.WeakSet[LoadedReward] = weakref.WeakSet()


def _forget_all() -> None:
    """Forgets all rewards in a forked child, which has no right to end their processes."""
    for reward in list(_loaded):
        reward._handle = ctypes.c_void_p()


os.register_at_fork(after_in_child=_forget_all)
