"""What PyTorch makes of images with the networks of libcifar_classifier.so. Writes beside this file:

    resnet-rgb.safetensors    a ResNet-18 of random weights, narrow; float32
    resnet-gray.safetensors   two stages, five classes, one channel, 28x28; float16
    resnet.json               log-probabilities, for pictures of several sizes made by a formula
    fashion.json              the shipped weights: a test picture of each class, and one that tiny-sd draws; base64 of [20, 32, 32, 3] bytes

    python Tests/Goldens/rewards/make_resnet_goldens.py

Needs torch, safetensors, numpy, diffusers, transformers and Debian's dataset-fashion-mnist.
"""
import base64
import json
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch.nn.functional import interpolate

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path += [str(ROOT / "Plugins/CIFARClassifier"), str(ROOT / "scripts")]
from resnet import ResNet
from state_dict_to_safetensors import save
from train_fashion_classifier import WIDTHS, drawn, fashion, plain


def read(path, net):
    """The network with the file's weights, and a function from byte images [n, h, w, 3] to log-probabilities."""
    net.load_state_dict({k: v.float() for k, v in load_file(path).items()}, strict=False)
    net.eval()
    metadata = safe_open(path, "pt").metadata()
    mean, std = (torch.tensor([float(x) for x in metadata[key].split()])[:, None, None] for key in ("mean", "std"))
    side = int(metadata["input_size"])

    @torch.no_grad()
    def log_probabilities(pictures):
        x = pictures.permute(0, 3, 1, 2).float() / 255
        if len(mean) == 1:
            x = 0.299 * x[:, :1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:]
        if x.shape[2:] != (side, side):
            x = interpolate(x, (side, side), mode="bilinear", antialias=True)
        return net((x - mean) / std).log_softmax(1)

    return log_probabilities


def picture(index, height, width):
    return [[[((x * (3 + index) + y * (5 + c)) ^ ((x * y) >> 2)) & 255 for c in range(3)] for x in range(width)] for y in range(height)]


def random_network(name, shape, sizes, half, side):
    g = torch.Generator().manual_seed(len(name))
    net = ResNet(**shape)
    # Activations keep their size from layer to layer, so that the image still shows in the logits.
    for key, value in net.state_dict().items():
        if value.is_floating_point():
            norm_factor = key.endswith(("running_var", "bn1.weight", "bn2.weight", "downsample.1.weight"))
            bound = (6 / value[0].numel()) ** 0.5 if value.ndim > 1 else 0.3
            value.copy_((0.7 if norm_factor else -bound) + 2 * bound * torch.rand(value.shape, generator=g))
    channels = shape["channels"]
    save(net.state_dict(), HERE / f"{name}.safetensors", [f"c{k}" for k in range(shape["classes"])], [0.4, 0.5, 0.6][:channels],
         [0.25, 0.3, 0.35][:channels], side, half)
    log_probabilities = read(HERE / f"{name}.safetensors", ResNet(**shape))
    cases = []
    for height, width in sizes:
        scores = log_probabilities(torch.tensor([picture(k, height, width) for k in range(3)], dtype=torch.uint8))
        cases.append({"weights": name, "height": height, "width": width, "logProbabilities": scores.tolist()})
        print(name, height, width, scores[0].tolist())
    return cases


torch.manual_seed(0)
cases = random_network("resnet-rgb", dict(widths=(4, 6, 8, 12), classes=10, channels=3), [(32, 32), (31, 57), (80, 48), (9, 20), (1, 1)],
                       False, 32)
cases += random_network("resnet-gray", dict(widths=(6, 5), blocks=(1, 2), classes=5, channels=1), [(28, 28), (32, 32), (64, 17)], True, 28)
(HERE / "resnet.json").write_text(json.dumps(cases))

x, y = fashion("t10k")
first = [int((y == k).nonzero()[0]) for k in range(10)]
x, labels = torch.cat([plain(x[first]), drawn(ROOT / "models/tiny-sd", 1)[0]]), list(range(10)) * 2
pictures = (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
scores = read(ROOT / "Plugins/CIFARClassifier/weights/fashion_mnist.safetensors", ResNet(WIDTHS))(pictures)
print("fashion", labels, scores.argmax(1).tolist())
(HERE / "fashion.json").write_text(json.dumps({
    "pictures": base64.b64encode(pictures.numpy().tobytes()).decode(), "labels": labels, "logProbabilities": scores.tolist()}))
