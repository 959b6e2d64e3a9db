"""libdagcore.so: where it is, and its functions as include/dagcore.h declares them."""
from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import os
import pathlib
import sys
from collections.abc import Iterator
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_char_p,
    c_float,
    c_int32,
    c_int64,
    c_size_t,
    c_uint8,
    c_uint32,
    c_uint64,
    c_void_p,
)
from typing import Any, TypeVar

from ._errors import BY_STATUS, DagError

API_VERSION = 1
_Handle = TypeVar("_Handle", bound="Handle")


class Text(Structure):
    _fields_ = [("data", c_void_p), ("size", c_size_t)]

    def __str__(self) -> str:
        return ctypes.string_at(self.data, self.size).decode()


class Error(Structure):
    _fields_ = [("struct_size", c_uint32), ("capacity", c_uint32), ("message", c_void_p)]


class Objective(Structure):
    _fields_ = [("struct_size", c_uint32), ("direction", c_int32), ("name", c_char_p), ("description", c_char_p)]


class Images(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("format", c_int32),
        ("data", c_void_p),
        ("height", c_uint32),
        ("width", c_uint32),
        ("strides", c_int64 * 4),
    ]


class Batch(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("count", c_uint32),
        ("images", POINTER(Images)),
        ("prompts", POINTER(Text)),
        ("metadata", POINTER(Text)),
        ("sample_ids", POINTER(c_uint64)),
        ("seeds", POINTER(c_uint64)),
        ("deadline", c_uint64),
    ]


class Result(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("objective_count", c_uint32),
        ("scores", POINTER(c_float)),
        ("statuses", POINTER(c_int32)),
    ]


ScoreFunction = CFUNCTYPE(c_int32, c_void_p, POINTER(Batch), POINTER(Result), POINTER(Error))
ReleaseFunction = CFUNCTYPE(None, c_void_p)
ProgressFunction = CFUNCTYPE(c_int32, c_void_p, c_int32, c_uint64, c_uint64)
LogFunction = CFUNCTYPE(c_int32, c_void_p, c_int32, c_char_p)
StepFunction = CFUNCTYPE(c_int32, c_void_p, c_char_p)


class Callback(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        ("name", c_char_p),
        ("settings", c_char_p),
        ("fingerprint", c_char_p),
        ("largest_batch", c_uint32),
        ("objective_count", c_uint32),
        ("objectives", POINTER(Objective)),
        ("context", c_void_p),
        ("score", ScoreFunction),
        ("release", ReleaseFunction),
    ]


class Observer(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("context", c_void_p),
        ("progress", ProgressFunction),
        ("log", LogFunction),
        ("step", StepFunction),
    ]


class CStatus(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("started", c_uint32),
        ("epoch", c_uint64),
        ("update", c_uint64),
        ("step", c_uint64),
        ("epochs", c_uint64),
        ("updates_per_epoch", c_uint64),
        ("trajectories_per_epoch", c_uint64),
        ("height", c_uint32),
        ("width", c_uint32),
    ]


class CSamples(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("count", c_uint32),
        ("height", c_uint32),
        ("width", c_uint32),
        ("images", POINTER(c_uint8)),
        ("prompts", POINTER(Text)),
        ("sample_ids", POINTER(c_uint64)),
        ("seeds", POINTER(c_uint64)),
        ("rewards", POINTER(c_float)),
        ("scores", POINTER(c_float)),
        ("objectives", POINTER(c_char_p)),
        ("objective_count", c_uint32),
        ("epoch", c_uint32),
    ]


class Pictures(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("count", c_uint32),
        ("height", c_uint32),
        ("width", c_uint32),
        ("images", POINTER(c_uint8)),
    ]


_TRAINER = {
    "create": [c_char_p, c_char_p, POINTER(c_void_p)],
    "resume": [c_char_p, c_char_p, POINTER(c_void_p)],
    "add_plugin": [c_void_p, c_char_p],
    "add_callback": [c_void_p, POINTER(Callback)],
    "set_observer": [c_void_p, POINTER(Observer)],
    "join": [c_void_p, c_uint32, c_uint32, c_char_p, c_uint32],
    "start": [c_void_p],
    "run": [c_void_p],
    "run_epoch": [c_void_p],
    "roll_out": [c_void_p],
    "score": [c_void_p],
    "update": [c_void_p, POINTER(c_int32)],
    "save": [c_void_p],
    "cancel": [c_void_p],
    "destroy": [c_void_p],
    "status": [c_void_p, POINTER(CStatus)],
    "config": [c_void_p, POINTER(c_char_p)],
    "metrics": [c_void_p, POINTER(c_char_p)],
    "samples": [c_void_p, POINTER(CSamples)],
    "sample": [c_void_p, POINTER(c_char_p), POINTER(c_uint64), c_uint32, POINTER(Pictures)],
    "evaluate": [c_void_p, POINTER(c_char_p)],
}

_SCORER = {
    "create": [c_char_p, POINTER(c_void_p)],
    "info": [c_void_p, POINTER(c_char_p)],
    "score": [c_void_p, POINTER(Batch), POINTER(c_float), POINTER(c_float)],
    "destroy": [c_void_p],
}


def _candidates() -> list[str]:
    """Places to try: DAGCORE_LIBRARY alone if it is set, else the wheel's, the loader's, the installed and the built one."""
    named = os.environ.get("DAGCORE_LIBRARY")
    if named:
        return [named]
    package = pathlib.Path(__file__).resolve().parent
    installed = [f"{prefix}/lib/libdagcore.so.1" for prefix in (sys.prefix, "/usr/local", "/usr")]
    return [f"{package}/lib/libdagcore.so.1", "libdagcore.so.1", *installed, f"{package.parents[1]}/.build/release/libdagcore.so"]


@contextlib.contextmanager
def _short_waits() -> Iterator[None]:
    """Has OpenMP's idle threads sleep soon, as dag-train has it, unless the environment decides that. libgomp reads it when it is loaded."""
    if {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        yield
        return
    os.environ["GOMP_SPINCOUNT"] = "10000"
    try:
        yield
    finally:
        del os.environ["GOMP_SPINCOUNT"]


def _opened(path: str) -> Any:
    """Opens a library file and declares its functions. Raises OSError if it cannot be used."""
    if "torch" in sys.modules and os.path.isfile(path) and b"libdag_torch_cpu.so" not in pathlib.Path(path).read_bytes():
        raise OSError(
            f"{path}: was not installed: its libtorch goes by the names of the torch that is imported here, and two versions would crash; "
            "use an installed copy (make install) or a wheel (make wheel)"
        )
    with _short_waits():
        library = ctypes.CDLL(path)
    try:
        library.dag_api_version.restype = c_uint32
        if library.dag_api_version() < API_VERSION:
            raise OSError(f"{path}: speaks version {library.dag_api_version()} of the API, this package {API_VERSION}: install a newer one")
        for name in ("dag_version", "dag_torch_version", "dag_last_error", "dag_default_config"):
            getattr(library, name).restype = c_char_p
        for kind, functions in (("trainer", _TRAINER), ("scorer", _SCORER)):
            for name, parameters in functions.items():
                function = getattr(library, f"dag_{kind}_{name}")
                function.restype, function.argtypes = c_int32, parameters
    except AttributeError as error:  # which names the file
        raise OSError(str(error)) from None
    return library


@functools.cache
def _load() -> tuple[Any, str]:
    if sys.executable:  # for rewards in Python files and in packages of this Python
        os.environ["DAG_PYTHON"] = sys.executable
    problems = []
    for path in _candidates():
        try:
            return _opened(path), path
        except OSError as error:
            problems.append(str(error))
    raise ImportError(
        "there is no libdagcore.so to load: install a wheel that carries it, run `make install` in its repository, or set DAGCORE_LIBRARY to "
        f"the file. Tried: {'; '.join(problems)}"
    )


def library() -> Any:
    """The loaded library. Raises ImportError if there is none."""
    return _load()[0]


def library_path() -> str:
    """The file that is used, or its name if the system's loader found it."""
    return _load()[1]


def version() -> str:
    """The library's version."""
    return library().dag_version().decode()


def torch_version() -> str:
    """The version of the library's libtorch, which is independent of a torch that Python imports."""
    return library().dag_torch_version().decode()


def default_config() -> dict[str, Any]:
    """All settings with their defaults, which are the paper's; docs/configuration.md explains them."""
    return json.loads(library().dag_default_config())


def failure(status: int, message: bytes) -> DagError:
    """The exception for a status other than DAG_OK."""
    return BY_STATUS.get(status, DagError)(message.decode(errors="replace"))


class Handle:
    """An object of the library. It ends by `close`, by `with`, or when it is forgotten."""

    #: "trainer" or "scorer".
    _kind: str
    _handle: c_void_p

    def close(self) -> None:
        if getattr(self, "_handle", None):
            check(getattr(library(), f"dag_{self._kind}_destroy")(self._handle))
            self._handle = c_void_p()

    def __enter__(self: _Handle) -> _Handle:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def __del__(self) -> None:
        try:
            self.close()
        except Exception:  # at the interpreter's end
            pass


def check(status: int) -> None:
    """Raises the exception for a status other than DAG_OK, with the calling thread's last error."""
    if status:
        raise failure(status, library().dag_last_error())
