"""How fast libcifar_classifier.so is beside PyTorch: ResNet-18 at full width, the same random weights, images of 32x32 in batches of 64.

Rounds alternate in one process, with the same number of threads; the numbers are medians. The plugin is called through its C interface,
bytes in and scores out; PyTorch gets the bytes too and answers with log-probabilities, in float32 as it comes, in channels-last, and in
bfloat16.

    make build && scripts/setup.sh --python
    .venv/bin/python Benchmarks/classifier_vs_torch.py
"""
import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path += [str(ROOT / "Plugins/CIFARClassifier"), str(ROOT / "scripts")]
from resnet import ResNet
from reward_host import Reward
from state_dict_to_safetensors import save

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
