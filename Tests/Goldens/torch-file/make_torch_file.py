"""A training checkpoint as torch.save writes it, with all that such files have in them, and its tensors as safetensors. python make_torch_file.py"""
import argparse
import datetime
import pathlib
import zipfile

import torch
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent


def main():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    base = torch.arange(24, dtype=torch.float32)
    state = net.state_dict()  # an OrderedDict with metadata
    state["transposed"] = base.view(4, 6).t()
    state["slice"] = base[5:9]
    state["half"], state["bfloat"], state["double"] = base[:3].half(), base[:3].bfloat16(), base[:3].double()
    state["scalar"], state["empty"] = torch.tensor(2.5), torch.zeros(0, 3)
    state["bytes"], state["flags"], state["ints"] = torch.tensor([1, 255], dtype=torch.uint8), torch.tensor([True, False]), base[:2].int()
    state["parameter"] = torch.nn.Parameter(base[:2].clone())
    checkpoint = {
        "epoch": 3, "name": "ViT", "state_dict": state, "args": argparse.Namespace(lr=1e-4, when=datetime.datetime(2024, 1, 1)), "best": None,
        "history": [0.5, (1, 2), {"loss": 2**70}, {1, 2}], "optimizer": {"state": {0: {"step": torch.tensor(7.0)}}}, 5: torch.ones(1)}
    torch.save(checkpoint, HERE / "checkpoint.pt")
    torch.save(state, HERE / "state_dict.pth", pickle_protocol=4)
    torch.save(state, HERE / "old.pth", _use_new_zipfile_serialization=False)
    with zipfile.ZipFile(HERE / "state_dict.pth") as stored, zipfile.ZipFile(HERE / "compressed.pth", "w") as packed:
        for name in stored.namelist():
            packed.writestr(zipfile.ZipInfo(name), stored.read(name), zipfile.ZIP_DEFLATED, 9)
    tensors = {name: tensor.detach().contiguous().clone() for name, tensor in state.items()}
    save_file(tensors, HERE / "state_dict.safetensors")


main()
