# Serves a Python reward to dag-train or dag-reward, which run this file with the user's own interpreter: python3 -u -c <this> my_reward.py
# scores.py stands before it. Messages are described in WorkerMessages.swift. What a reward file may contain is described in docs/reward-plugins.md.
import sys

if sys.path and sys.path[0] == "":
    del sys.path[0]  # the current folder, where -c looks first: a json.py there is not the module that is meant
import atexit
import gc
import importlib.util
import inspect
import json
import math
import mmap
import os
import re
import select
import signal
import socket
import struct
import threading
import traceback
import weakref

SOCKET, MEMORY, HOST = 3, 4, 5
PROTOCOL, CUT_OFF = 2, 113
DIRECTIONS = ("maximize", "minimize")


class Refusal(Exception):
    """An error that is told to the user without a traceback."""


leaving = threading.Event()  # the host needs no more answers, or has ended


def kill_group():
    try:
        os.killpg(os.getpid(), signal.SIGKILL)
    finally:
        os.kill(os.getpid(), signal.SIGKILL)  # it may have gone to another group


def end_with_host():
    """Ends this process and all of its group once the host has ended, whatever the reward does about signals."""
    os.set_inheritable(HOST, False)
    host = select.poll()
    host.register(HOST, select.POLLIN)

    def wait():
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        host.poll()
        kill_group()

    threading.Thread(target=wait, daemon=True).start()
    # Registered first, called last: children of the reward end with it, even if the host that would kill them has ended.
    atexit.register(lambda: leaving.is_set() and kill_group())


def load(path):
    """Imports a file as a module, with its folder on sys.path, as if the file were run."""
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    spec = importlib.util.spec_from_file_location("dag_reward", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["dag_reward"] = module
    spec.loader.exec_module(module)
    if not callable(getattr(module, "score", None)):
        raise Refusal("it defines no function score(images, prompts, metadata)")
    return module


def constant(module, name, default, kind):
    value = getattr(module, name, default)
    if not isinstance(value, kind) or isinstance(value, bool) is not (kind is bool):
        raise Refusal(f"{name} is {value!r}, which is not of type {kind.__name__}")
    return value


def parameters(module):
    """Returns the parameters of setup() but for `device`, which are the reward's options: name -> default."""
    if not hasattr(module, "setup"):
        return {}
    found = inspect.signature(module.setup).parameters.values()
    for parameter in found:
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY) or parameter.default is parameter.empty:
            raise Refusal(f"every parameter of setup() needs a name and a default, and {parameter} is different")
    return {parameter.name: parameter.default for parameter in found if parameter.name != "device"}


def describe(module, path):
    objectives = constant(module, "OBJECTIVES", {"score": "maximize"}, dict)
    for name, direction in objectives.items():
        if not isinstance(name, str):
            raise Refusal(f"OBJECTIVES has the key {name!r}, which is not of type str")
        if direction not in DIRECTIONS:
            raise Refusal(f"OBJECTIVES[{name!r}] is {direction!r}; it must be maximize or minimize")
    if not objectives:
        raise Refusal("OBJECTIVES is empty")
    devices = constant(module, "DEVICES", ["cpu", "cuda"], list)
    for device in devices:
        if not isinstance(device, str):
            raise Refusal(f"DEVICES holds {device!r}, which is not of type str")
    largest = constant(module, "LARGEST_BATCH", 0, int)
    if largest < 0:
        raise Refusal(f"LARGEST_BATCH is {largest}; it must be a number of images, or 0 for any")
    stem = os.path.splitext(os.path.basename(path))[0]
    first_line = (inspect.getdoc(module) or "a Python reward").split("\n")[0]
    return {
        "name": constant(module, "NAME", re.sub("[^a-z0-9]+", "_", stem.lower()), str),
        "version": constant(module, "VERSION", "0", str),
        "description": constant(module, "DESCRIPTION", first_line, str),
        "license": constant(module, "LICENSE", "unknown", str),
        "source": constant(module, "SOURCE", os.path.basename(path), str),
        "objectives": [{"name": name, "direction": direction, "description": ""} for name, direction in objectives.items()],
        "options": [
            {"key": key, "default": "" if default is None else str(default), "description": ""} for key, default in parameters(module).items()
        ],
        "open_options": False,
        "devices": devices,
        "thread_mode": "serialized",
        "deterministic": constant(module, "DETERMINISTIC", True, bool),
        "largest_batch": largest,
    }


def converted(key, text, default):
    """Converts a setting to the type of its default."""
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False, "1": True, "0": False}[text.lower()]
        value = type(default)(text) if isinstance(default, (int, float)) else text
    except (KeyError, ValueError):
        raise Refusal(f"{key}={text} is not of type {type(default).__name__}, as setup()'s default {default!r} is") from None
    if isinstance(value, float) and math.isfinite(default) and not math.isfinite(value):
        raise Refusal(f"{key}={text} is not finite, as setup()'s default {default!r} is")
    return value


def make(module, options, device):
    """Calls the file's setup; returns words for everything that the scores depend on."""
    import hashlib

    defaults = parameters(module)
    settings = {key: converted(key, text, defaults[key]) for key, text in options.items()}
    if hasattr(module, "setup"):
        if "device" in inspect.signature(module.setup).parameters:
            module.setup(**settings, device=device)
        else:
            module.setup(**settings)
    with open(module.__file__, "rb") as file:
        code = hashlib.sha256(file.read()).hexdigest()[:16]
    return " ".join([f"code={code}"] + [f"{key}={settings.get(key, default)}" for key, default in sorted(defaults.items())])


def sample_names(ids):
    """Names samples in messages, as RewardBatch.names does."""
    ids = sorted(set(ids))
    if len(ids) == 1:
        return f"sample {ids[0]}"
    count = "samples" if ids[-1] - ids[0] == len(ids) - 1 else f"{len(ids)} samples from"
    return f"{count} {ids[0]} to {ids[-1]}"


def score(module, description, batch, images):
    """Returns scores as float32 bytes [count, objectives]; NaN where the reward gives none. `images` is memory that the host shares and
    overwrites with the next batch once this one is answered: nothing is copied."""
    import numpy

    names = [objective["name"] for objective in description["objectives"]]
    largest = description["largest_batch"] or batch["count"]
    metadata = [json.loads(text) for text in batch["metadata"]]
    parts = []
    for start in range(0, batch["count"], largest):
        part = slice(start, min(start + largest, batch["count"]))
        answer = module.score(images[part], batch["prompts"][part], metadata[part])
        try:
            parts.append(scores_of(answer, part.stop - part.start, names))  # noqa: F821 (of scores.py)
        except ValueError as error:
            raise Refusal(str(error)) from error
    return numpy.concatenate(parts).tobytes()


def main(path):
    end_with_host()
    path = os.path.abspath(path)  # as tracebacks have it
    connection = socket.socket(fileno=SOCKET)
    for descriptor in (SOCKET, MEMORY):
        os.set_inheritable(descriptor, False)
    memory, reward, description = None, None, None

    def told(error):
        """Describes an error in a line: what, and where in the user's file."""
        if isinstance(error, Refusal):
            return str(error)
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
        place = f" (line {line})" if line else ""
        hint = f"; {sys.executable} lacks it, python=PATH names another interpreter" if isinstance(error, ModuleNotFoundError) else ""
        return f"{type(error).__name__}: {error}".split("\n")[0] + place + hint

    def receive(count):
        data = bytearray()
        while len(data) < count:
            part = connection.recv(count - len(data))
            if not part:
                raise ConnectionResetError
            data += part
        return bytes(data)

    while True:
        sizes = struct.unpack("=II", receive(8))
        (call, arguments), *_ = json.loads(receive(sizes[0])).items()
        receive(sizes[1])
        data, what = b"", "cannot be opened"
        try:
            if reward is None:
                reward = load(path)
                description = describe(reward, path)
            if call == "describe":
                answer = {"description": description, "protocol": PROTOCOL}
            elif call == "make":
                what = "cannot be made"
                answer = {"made": f"{description['name']} {description['version']} {make(reward, arguments['options'], arguments['device'])}"}
            else:
                batch = arguments["batch"]
                what = f"failed on {sample_names(batch['ids'])}"
                import numpy

                shape = (batch["count"], batch["height"], batch["width"], 3)
                if memory is None or len(memory) < math.prod(shape):
                    memory = mmap.mmap(MEMORY, math.prod(shape), prot=mmap.PROT_READ)
                lent = numpy.frombuffer(memory, numpy.uint8, math.prod(shape))
                kept = weakref.ref(lent)
                scores = score(reward, description, batch, lent.reshape(shape))
                del lent
                if kept() is not None:
                    gc.collect()  # garbage may still hold them
                if kept() is not None:
                    raise Refusal("it kept its images, which are lent for the call: keep images.copy(), and nothing that shares their memory")
                answer, data = {"scores": {}}, scores
        except Exception as error:
            name = description["name"] if description else os.path.basename(path)
            answer = {"error": f"reward {name} {what}: {told(error)}"}
        text = json.dumps(answer).encode()
        connection.sendall(struct.pack("=II", len(text), len(data)) + text + data)


try:
    main(sys.argv[1])
except (ConnectionResetError, BrokenPipeError):
    leaving.set()
except OSError:
    os._exit(CUT_OFF)
