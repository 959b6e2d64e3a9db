"""How fast libcifar_classifier.so is beside PyTorch: ResNet-18 at full width, the same random weights, pictures of 32x32 in batches of 64.

Rounds alternate in one process, with the same number of threads; the numbers are medians. The plugin is called through its C interface,
bytes in and scores out; PyTorch gets the bytes too and answers with log-probabilities, in float32 as it comes, in channels-last, and in
bfloat16.

    make build && scripts/setup.sh --python
    .venv/bin/python Benchmarks/classifier_vs_torch.py
"""
import argparse, ctypes as c, os, statistics, sys, tempfile, time
from pathlib import Path
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path += [str(ROOT / "Plugins/CIFARClassifier"), str(ROOT / "scripts")]
from resnet import ResNet
from state_dict_to_safetensors import save

U32, U64, I32, I64, TEXT, POINTER = c.c_uint32, c.c_uint64, c.c_int32, c.c_int64, c.c_char_p, c.c_void_p


def struct(name, *fields):
    """A struct of dag_reward.h that starts with its size."""
    return type(name, (c.Structure,), {"_fields_": [("struct_size", U32), *fields]})


def make(kind, **values):
    return kind(struct_size=c.sizeof(kind), **values)


Error = struct("Error", ("capacity", U32), ("message", TEXT))
Lookup = c.CFUNCTYPE(POINTER, TEXT)
Host = struct("Host", ("abi_min", U32), ("abi_max", U32), ("reserved", U32), ("name", TEXT), ("version", TEXT), ("extension", Lookup))
Log = struct("Log", ("reserved", U32), ("write", c.CFUNCTYPE(None, TEXT)))
Info = struct("Info", ("flags", U32), ("name", TEXT), ("version", TEXT), ("description", TEXT), ("license", TEXT), ("source", TEXT),
              ("objective_count", U32))  # and more, which is not read here
Text = type("Text", (c.Structure,), {"_fields_": [("data", TEXT), ("size", c.c_size_t)]})
Setting = type("Setting", (c.Structure,), {"_fields_": [("key", TEXT), ("value", TEXT)]})
Config = struct("Config", ("setting_count", U32), ("settings", c.POINTER(Setting)), ("json", Text), ("device", TEXT))
Images = struct("Images", ("format", I32), ("data", POINTER), ("height", U32), ("width", U32), ("strides", I64 * 4))
Batch = struct("Batch", ("count", U32), ("images", c.POINTER(Images)), ("prompts", c.POINTER(Text)), ("metadata", c.POINTER(Text)),
               ("sample_ids", c.POINTER(U64)), ("seeds", c.POINTER(U64)), ("deadline", U64))
Result = struct("Result", ("objective_count", U32), ("scores", c.POINTER(c.c_float)), ("statuses", c.POINTER(I32)))
Create = c.CFUNCTYPE(I32, c.POINTER(Host), c.POINTER(Config), c.POINTER(POINTER), c.POINTER(Error))
Score = c.CFUNCTYPE(I32, POINTER, c.POINTER(Batch), c.POINTER(Result), c.POINTER(Error))
Plugin = struct("Plugin", ("abi_version", U32), ("info", c.POINTER(Info)), ("create", Create), ("score", Score),
                ("destroy", c.CFUNCTYPE(None, POINTER)), ("extension", POINTER))


class Reward:
    """A reward plugin in this process; `settings` have to be all that it declares, in its order."""

    def __init__(self, path, **settings):
        self.buffer = c.create_string_buffer(1024)
        self.error = make(Error, capacity=1024, message=c.cast(self.buffer, TEXT))
        log = make(Log, write=Log._fields_[2][1](lambda line: print(line.decode())))
        lookup = Lookup(lambda name: c.addressof(log) if name == b"dag.log/1" else None)
        host = make(Host, abi_min=1, abi_max=1, name=b"benchmark", version=b"1", extension=lookup)
        self.plugin, self.instance, self.kept = c.POINTER(Plugin)(), POINTER(), (log, lookup, host)
        self.check(c.CDLL(str(path)).dag_reward_entry(c.byref(host), c.byref(self.plugin), c.byref(self.error)))
        pairs = (Setting * len(settings))(*[(key.encode(), str(value).encode()) for key, value in settings.items()])
        config = make(Config, setting_count=len(settings), settings=pairs, json=Text(b"{}", 2), device=b"cpu")
        self.check(self.plugin.contents.create(c.byref(host), c.byref(config), c.byref(self.instance), c.byref(self.error)))
        self.objectives = self.plugin.contents.info.contents.objective_count

    def check(self, status):
        if status != 0:
            sys.exit(self.buffer.value.decode())

    def score(self, pictures):
        """Scores [n, objectives] of byte pictures [n, h, w, 3]."""
        n, height, width, _ = pictures.shape
        images = make(Images, format=1, data=pictures.data_ptr(), height=height, width=width, strides=(I64 * 4)(*pictures.stride()))
        scores, statuses = torch.full((n, self.objectives), torch.nan), torch.zeros(n, dtype=torch.int32)
        texts, numbers = (Text * n)(*[(b"", 0)] * n), (U64 * n)(*range(n))
        batch = make(Batch, count=n, images=c.pointer(images), prompts=texts, metadata=texts, sample_ids=numbers, seeds=numbers)
        result = make(Result, objective_count=self.objectives, scores=c.cast(scores.data_ptr(), c.POINTER(c.c_float)),
                      statuses=c.cast(statuses.data_ptr(), c.POINTER(I32)))
        self.check(self.plugin.contents.score(self.instance, c.byref(batch), c.byref(result), c.byref(self.error)))
        return scores


ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("--rounds", type=int, default=7)
ap.add_argument("--batch", type=int, default=64)
ap.add_argument("--widths", type=int, nargs="+", default=[64, 128, 256, 512])
ap.add_argument("--threads", type=int, default=os.cpu_count())
ap.add_argument("--plugin", default=ROOT / ".build/release/libcifar_classifier.so")
a = ap.parse_args()
torch.manual_seed(0)
torch.set_num_threads(a.threads)
MEAN, STD = [0.49, 0.48, 0.45], [0.25, 0.24, 0.26]
pictures = torch.randint(0, 256, (a.batch, 32, 32, 3), dtype=torch.uint8)


def normalised(pictures):
    return (pictures.permute(0, 3, 1, 2).float() / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def in_torch(dtype, layout):
    copy = ResNet(a.widths, (2,) * len(a.widths)).eval()
    copy.load_state_dict(net.state_dict())
    copy = copy.to(dtype=dtype, memory_format=layout)

    @torch.inference_mode()
    def score(pictures):
        return copy(normalised(pictures).to(dtype).contiguous(memory_format=layout)).float().log_softmax(1)

    return score


net = ResNet(a.widths, (2,) * len(a.widths))
with torch.no_grad():  # batch norm's statistics, so that activations have a sane size
    for part in pictures.split(8):
        net(normalised(part))
with tempfile.TemporaryDirectory() as folder:
    save(net.state_dict(), f"{folder}/net.safetensors", [f"c{k}" for k in range(10)], MEAN, STD)
    reward = Reward(a.plugin, weights=f"{folder}/net.safetensors", classes="c0", threads=a.threads)
ways = {
    "plugin": lambda x: reward.score(x)[:, 2:12],  # class_0 to class_9
    "torch float32": in_torch(torch.float32, torch.contiguous_format),
    "torch float32 channels-last": in_torch(torch.float32, torch.channels_last),
    "torch bfloat16 channels-last": in_torch(torch.bfloat16, torch.channels_last),
}
expected, speeds = ways["torch float32"](pictures), {name: [] for name in ways}
for name, way in ways.items():
    print(f"{name:30} largest difference to torch float32 {(way(pictures) - expected).abs().max():.1e}")
for _ in range(a.rounds):
    for name, way in ways.items():
        way(pictures)  # the caches and threads are this way's now
        start, count = time.perf_counter(), 0
        while count < 3 or time.perf_counter() - start < 0.5:
            way(pictures)
            count += 1
        speeds[name].append(count * a.batch / (time.perf_counter() - start))
for name in ways:
    ratios = [own / other for own, other in zip(speeds["plugin"], speeds[name])]
    print(f"{name:30} {statistics.median(speeds[name]):7.1f} pictures/s   plugin is {statistics.median(ratios):.2f} times as fast")
