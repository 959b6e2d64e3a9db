"""Trains the classifier that comes with libcifar_classifier.so: tiny-sd's ten clothing classes, on any colours or none.

    python Plugins/CIFARClassifier/train_fashion_classifier.py --output fashion_mnist.safetensors
    python Plugins/CIFARClassifier/train_fashion_classifier.py --evaluate Plugins/CIFARClassifier/weights/fashion_mnist.safetensors

A narrow ResNet-18 on Fashion-MNIST (Debian package dataset-fashion-mnist), 28x28 padded to 32x32 and coloured as
models/tiny-sd/train_tiny_sd.py does: half of the images in its eight colours, a quarter in random ones, a quarter gray as they are.
Evaluation is on the test split, plain and in tiny-sd's colours, and, with --tiny-sd, on what that model draws when it is asked for an item.
Needs torch, safetensors, numpy; diffusers and transformers for --tiny-sd.
"""
import argparse
import gzip
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE), str(HERE.parents[1] / "scripts")]
from resnet import ResNet
from state_dict_to_safetensors import save

DATA = "/usr/share/datasets/fashion-mnist/"
ITEMS = ["tee", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"]
# red green blue yellow purple orange white black, as in models/tiny-sd/train_tiny_sd.py
PALETTE = torch.tensor([[220, 40, 40], [40, 170, 60], [40, 80, 220], [240, 210, 40], [140, 50, 180], [245, 130, 30], [245, 245, 245],
                        [25, 25, 25]]) / 255
NAMES = ["red", "green", "blue", "yellow", "purple", "orange", "white", "black"]
WIDTHS = (16, 32, 64, 128)
MEAN, STD = [0.5] * 3, [0.25] * 3


def fashion(split):
    """Gray images [n, 32, 32] in [0, 1] and classes [n]."""
    x = np.frombuffer(gzip.open(f"{DATA}{split}-images-idx3-ubyte.gz").read(), np.uint8, offset=16).reshape(-1, 28, 28)
    y = np.frombuffer(gzip.open(f"{DATA}{split}-labels-idx1-ubyte.gz").read(), np.uint8, offset=8)
    return torch.from_numpy(np.pad(x, ((0, 0), (2, 2), (2, 2)))).float() / 255, torch.from_numpy(y.copy()).long()


def plain(v):
    return v[:, None].expand(-1, 3, -1, -1)


def coloured(v, thing, background):
    """Gray images in colours [n, 3], shaded as tiny-sd's training images are."""
    alpha, shade = (v * 6).clamp(0, 1)[:, None], (0.35 + 0.65 * v)[:, None]
    return alpha * shade * thing[:, :, None, None] + (1 - alpha) * background[:, :, None, None]


def palette_pair(n, g):
    thing = torch.randint(0, 8, (n,), generator=g)
    return PALETTE[thing], PALETTE[(thing + torch.randint(1, 8, (n,), generator=g)) % 8]


def augmented(v, g):
    """Flipped and shifted by up to two pixels; coloured, random colours at least 0.3 apart; a little noise, for what a decoder leaves."""
    n = len(v)
    v = torch.where(torch.rand(n, 1, 1, generator=g) < 0.5, v.flip(2), v)
    rows, columns = (torch.arange(32) + torch.randint(-2, 3, (n, 1), generator=g) for _ in range(2))
    v = v[torch.arange(n)[:, None, None], rows.clamp(0, 31)[:, :, None], columns.clamp(0, 31)[:, None]]
    thing, background = palette_pair(n, g)
    a, b = torch.rand(n, 3, generator=g), torch.rand(n, 3, generator=g)
    b = torch.where((a - b).norm(dim=1, keepdim=True) < 0.3, 1 - b.round(), b)
    kind = torch.rand(n, 1, generator=g)
    thing, background = torch.where(kind < 0.25, a, thing), torch.where(kind < 0.25, b, background)
    x = torch.where((kind > 0.75)[:, :, None, None], plain(v), coloured(v, thing, background))
    noise = 0.04 * torch.rand(n, 1, 1, 1, generator=g) * torch.randn(x.shape, generator=g)
    return (x + noise).clamp(0, 1)


def normalised(x):
    x = (x * 255).round() / 255
    return ((x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]).contiguous(memory_format=torch.channels_last)


def train(epochs, seed):
    torch.manual_seed(seed)
    g = torch.Generator().manual_seed(seed)
    x, y = fashion("train")
    net = ResNet(WIDTHS).to(memory_format=torch.channels_last)
    steps = epochs * (len(x) // 128)
    opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    lr = torch.optim.lr_scheduler.OneCycleLR(opt, 0.2, total_steps=steps, pct_start=0.2)
    start = time.time()
    for step in range(steps):
        if step % (len(x) // 128) == 0:
            order = torch.randperm(len(x), generator=g)
        i = order[step % (len(x) // 128) * 128:][:128]
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(normalised(augmented(x[i], g)))
        loss = torch.nn.functional.cross_entropy(logits.float(), y[i])
        opt.zero_grad()
        loss.backward()
        opt.step()
        lr.step()
        if step % 100 == 0:
            print(f"step {step} of {steps}  loss {loss.item():.3f}  {time.time() - start:.0f} s", flush=True)
    return net


@torch.no_grad()
def report(name, net, images, y):
    logits = torch.cat([net(normalised(x)) for x in images.split(500)])
    right, loss = logits.argmax(1).eq(y).float().mean().item(), torch.nn.functional.cross_entropy(logits, y).item()
    print(f"{name:25} {len(y):5} images  {100 * right:.2f}% right  -log p {loss:.3f}", flush=True)


def drawn(model, each):
    """What tiny-sd draws when asked for an item, most with colours and background in the prompt, and the item."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline
    pipe = StableDiffusionPipeline.from_pretrained(model, torch_dtype=torch.float32)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    g, x = torch.Generator().manual_seed(0), []
    for item in ITEMS:
        pairs = [(k % 8, (k + 1 + k // 8 % 7) % 8) for k in range(each)]
        prompts = [f"a {NAMES[a]} {item} on a {NAMES[b]} background" for a, b in pairs]
        out = pipe(prompts, num_inference_steps=20, guidance_scale=5.0, eta=1.0, generator=g, output_type="pt").images
        x.append(out.float().clamp(0, 1))
    return torch.cat(x), torch.arange(10).repeat_interleave(each)


def evaluate(path, tiny_sd):
    net = ResNet(WIDTHS)
    net.load_state_dict({k: v.float() for k, v in load_file(path).items()}, strict=False)
    net.eval().to(memory_format=torch.channels_last)
    v, y = fashion("t10k")
    report("plain", net, plain(v), y)
    report("in tiny-sd's colours", net, coloured(v, *palette_pair(len(v), torch.Generator().manual_seed(1))), y)
    if tiny_sd:
        report("drawn by tiny-sd", net, *drawn(tiny_sd, 40))


if __name__ == "__main__":
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--output", default="fashion_mnist.safetensors")
    ap.add_argument("--epochs", type=int, default=6)
    ap.add_argument("--seed", type=int, default=0)
    ap.add_argument("--threads", type=int, default=1)
    ap.add_argument("--evaluate", metavar="WEIGHTS", help="train nothing, evaluate this file")
    ap.add_argument("--tiny-sd", metavar="MODEL", help="also evaluate on this model's images")
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    if not a.evaluate:
        save(train(a.epochs, a.seed).state_dict(), a.output, ITEMS, MEAN, STD, half=True)
    evaluate(a.evaluate or a.output, a.tiny_sd)
