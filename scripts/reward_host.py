"""A host of dag_reward.h in Python, for benchmarks: calls a reward plugin in this process."""
import ctypes as c
import pathlib
import sys

import torch

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "python"))
from dagcore._library import Batch, Error, Images, Result, ScoreFunction, Text

U32, U64, I32, I64, TEXT, POINTER = c.c_uint32, c.c_uint64, c.c_int32, c.c_int64, c.c_char_p, c.c_void_p


def struct(name, *fields):
    """A struct of dag_reward.h that starts with its size; those that a callback needs are in the dagcore package."""
    return type(name, (c.Structure,), {"_fields_": [("struct_size", U32), *fields]})


def make(kind, **values):
    return kind(struct_size=c.sizeof(kind), **values)


def text(data):
    """Text in bytes, which have to be kept as long as it is used."""
    return Text(c.cast(data, POINTER), len(data))


Lookup = c.CFUNCTYPE(POINTER, TEXT)
Host = struct("Host", ("abi_min", U32), ("abi_max", U32), ("reserved", U32), ("name", TEXT), ("version", TEXT), ("extension", Lookup))
Log = struct("Log", ("reserved", U32), ("write", c.CFUNCTYPE(None, TEXT)))
Info = struct("Info", ("flags", U32), ("name", TEXT), ("version", TEXT), ("description", TEXT), ("license", TEXT), ("source", TEXT),
              ("objective_count", U32))  # and more, which is not read here
Setting = type("Setting", (c.Structure,), {"_fields_": [("key", TEXT), ("value", TEXT)]})
Config = struct("Config", ("setting_count", U32), ("settings", c.POINTER(Setting)), ("json", Text), ("device", TEXT))
Create = c.CFUNCTYPE(I32, c.POINTER(Host), c.POINTER(Config), c.POINTER(POINTER), c.POINTER(Error))
Plugin = struct("Plugin", ("abi_version", U32), ("info", c.POINTER(Info)), ("create", Create), ("score", ScoreFunction),
                ("destroy", c.CFUNCTYPE(None, POINTER)), ("extension", POINTER))
NOTHING = b"{}"  # JSON


class Reward:
    """A reward plugin in this process; `settings` have to be all that it declares, in the order of its options."""

    def __init__(self, path, **settings):
        self.buffer = c.create_string_buffer(1024)
        self.error = make(Error, capacity=1024, message=c.addressof(self.buffer))
        log = make(Log, write=Log._fields_[2][1](lambda line: print(line.decode())))
        lookup = Lookup(lambda name: c.addressof(log) if name == b"dag.log/1" else None)
        host = make(Host, abi_min=1, abi_max=1, name=b"benchmark", version=b"1", extension=lookup)
        self.plugin, self.instance, self.kept = c.POINTER(Plugin)(), POINTER(), (log, lookup, host)
        self.check(c.CDLL(str(path)).dag_reward_entry(c.byref(host), c.byref(self.plugin), c.byref(self.error)))
        pairs = (Setting * len(settings))(*[(key.encode(), str(value).encode()) for key, value in settings.items()])
        config = make(Config, setting_count=len(settings), settings=pairs, json=text(NOTHING), device=b"cpu")
        self.check(self.plugin.contents.create(c.byref(host), c.byref(config), c.byref(self.instance), c.byref(self.error)))
        self.objectives = self.plugin.contents.info.contents.objective_count

    def check(self, status):
        if status != 0:
            sys.exit(self.buffer.value.decode())

    def score(self, pixels, prompts=None):
        """Scores [n, objectives] of byte images [n, h, w, 3]; prompts are n strings, "" if there are none."""
        n, height, width, _ = pixels.shape
        images = make(Images, format=1, data=pixels.data_ptr(), height=height, width=width, strides=(I64 * 4)(*pixels.stride()))
        scores, statuses = torch.full((n, self.objectives), torch.nan), torch.zeros(n, dtype=torch.int32)
        prompts = [prompt.encode() for prompt in prompts or [""] * n]
        texts, metadata = (Text * n)(*map(text, prompts)), (Text * n)(*[text(NOTHING)] * n)
        numbers = (U64 * n)(*range(n))
        batch = make(Batch, count=n, images=c.pointer(images), prompts=texts, metadata=metadata, sample_ids=numbers, seeds=numbers)
        result = make(Result, objective_count=self.objectives, scores=c.cast(scores.data_ptr(), c.POINTER(c.c_float)),
                      statuses=c.cast(statuses.data_ptr(), c.POINTER(I32)))
        self.check(self.plugin.contents.score(self.instance, c.byref(batch), c.byref(result), c.byref(self.error)))
        return scores
