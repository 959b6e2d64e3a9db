"""Turns the state dict of a PyTorch ResNet with the CIFAR stem into weights for libcifar_classifier.so.

    python scripts/state_dict_to_safetensors.py resnet18.pt resnet18.safetensors \\
        --classes plane+car+bird+cat+deer+dog+frog+horse+ship+truck --mean 0.4914 0.4822 0.4465 --std 0.2470 0.2435 0.2616

Mean and standard deviation are those that pictures in [0, 1] were normalised with in training. Tensor names are torchvision's, or
those of kuangliu/pytorch-cifar (`shortcut`, `linear`), which are renamed. The file may hold the state dict itself, or a checkpoint with
it under "net", "model" or "state_dict". Classes, normalisation and input size go into the safetensors metadata. Needs torch, safetensors.
"""
import argparse

import torch
from safetensors.torch import save_file


def renamed(name):
    return name.removeprefix("module.").replace(".shortcut.", ".downsample.").replace("linear.", "fc.")


def save(state, path, classes, mean, std, input_size=32, half=False):
    """Writes the weights file. `classes`: names in the order of the logits; `half`: float16, half the size."""
    state = {renamed(name): value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    if "conv1.weight" not in state or "fc.weight" not in state:
        raise SystemExit("this is not the state dict of a ResNet: it lacks conv1.weight or fc.weight")
    channels, outputs = state["conv1.weight"].shape[1], state["fc.weight"].shape[0]
    if len(classes) != outputs:
        raise SystemExit(f"{len(classes)} class names were given, but fc.weight has {outputs} classes")
    if len(mean) != channels or len(std) != channels:
        raise SystemExit(f"give {channels} numbers each as --mean and --std: conv1.weight takes {channels} channels")
    if bad := [name for name in classes if not name or set(name) & set("+,")]:
        raise SystemExit(f"the class name '{bad[0]}' is empty or has a + or comma in it; rename it")
    tensors = {name: value.to(torch.float16 if half else torch.float32).contiguous() for name, value in state.items()}
    save_file(tensors, path, metadata={
        "format": "pt", "classes": "+".join(classes), "mean": " ".join(map(repr, mean)), "std": " ".join(map(repr, std)),
        "input_size": str(input_size)})


if __name__ == "__main__":
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("input")
    ap.add_argument("output")
    ap.add_argument("--classes", required=True, help="names joined by +, in the order of the logits")
    ap.add_argument("--mean", type=float, nargs="+", required=True)
    ap.add_argument("--std", type=float, nargs="+", required=True)
    ap.add_argument("--input-size", type=int, default=32, help="height and width of the pictures it was trained on")
    ap.add_argument("--half", action="store_true", help="store float16")
    a = ap.parse_args()
    state = torch.load(a.input, map_location="cpu", weights_only=True)
    for key in ("net", "model", "state_dict"):
        state = state.get(key, state)
    save(state, a.output, a.classes.split("+"), a.mean, a.std, a.input_size, a.half)
