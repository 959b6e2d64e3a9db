"""Converts arguments for the C functions. Errors name the argument."""
from __future__ import annotations

import json
import operator
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy


def text(value: Any, name: str) -> bytes:
    if not isinstance(value, str):
        raise TypeError(f"{name} is text, not {type(value).__name__}")
    try:
        return _whole(value.encode(), name)
    except UnicodeEncodeError as error:
        raise ValueError(f"{name} is not Unicode text: {error.reason}") from None


def path(value: Any, name: str) -> bytes:
    try:
        return _whole(os.fsencode(value), name)
    except TypeError:
        raise TypeError(f"{name} is a path, not {type(value).__name__}") from None


def _whole(value: bytes, name: str) -> bytes:
    if b"\0" in value:  # where C would take it to end
        raise ValueError(f"{name} has a NUL character in it")
    return value


def integer(value: Any, name: str, bits: int) -> int:
    """A whole number from 0, Python's or numpy's; of others ctypes would take the lowest bits."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is a whole number, not {type(value).__name__}") from None
    if not 0 <= number < 1 << bits:
        raise ValueError(f"{name} is from 0 to {(1 << bits) - 1}, not {number}")
    return number


def team(value: Any) -> tuple[int, int, bytes | None, int]:
    """Rank, count, host and port; no host for those of a launcher."""
    if value == "launched":
        return 0, 0, None, 0
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)) or len(value) != 4:
        raise TypeError(f'team is "launched" or (rank, count, host, port), not {value!r}')
    rank, count, host, port = value
    return integer(rank, "rank", 32), integer(count, "count", 32), text(host, "host"), integer(port, "port", 32)


def items(value: Any, name: str) -> list[Any]:
    """The items of a sequence other than a text."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise TypeError(f"{name} is a sequence, not {type(value).__name__}")
    return list(value)


def json_object(value: Any, name: str) -> bytes:
    """A mapping as JSON."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} is a mapping, not {type(value).__name__}")
    try:
        return json.dumps(dict(value), default=_plain, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None


def settings(config: Any, changes: Mapping[str, Any]) -> bytes:
    """Settings as JSON; those of `changes` win."""
    if config is not None and not isinstance(config, Mapping):
        raise TypeError(f"config is a mapping of settings, not {type(config).__name__}")
    merged = {**(config or {}), **changes}
    for key, value in merged.items():
        try:
            json.dumps({key: value}, default=_plain, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise type(error)(f"setting {key}: {error}") from None
    return json.dumps(merged, default=_plain).encode()


def _plain(value: Any) -> Any:
    """Converts values that JSON does not know: numpy's numbers and arrays, and paths."""
    return value.tolist() if isinstance(value, (numpy.generic, numpy.ndarray)) else os.fsdecode(value)
