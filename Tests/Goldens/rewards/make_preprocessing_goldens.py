"""Pillow's bicubic resizing and CLIP's preprocessing, of pictures made by a formula: checksums of the bytes. python make_preprocessing_goldens.py"""
import json, pathlib

import numpy, PIL, torch
from PIL import Image

SIZES = [(31, 57, 224), (57, 31, 224), (512, 512, 224), (768, 1024, 224), (32, 32, 224), (224, 224, 224), (225, 224, 224), (1, 1, 8), (7, 300, 16), (301, 300, 28)]


def picture(height, width):
    y, x, c = numpy.mgrid[0:height, 0:width, 0:3]
    return ((x * x * 7 + y * 31 + x * y * (c + 1) + c * 85) // 3 % 256).astype(numpy.uint8)


def long_side(picture, size):
    """hpsv2's open_clip/transform.py: ToTensor, ResizeMaxSize, Normalize."""
    image = torch.from_numpy(picture.copy()).permute(2, 0, 1).float() / 255
    scale = size / max(picture.shape[:2])
    if scale != 1.0:
        new = tuple(max(1, round(side * scale)) for side in picture.shape[:2])
        image = torch.nn.functional.interpolate(image[None], size=new, mode="bicubic", antialias=True)[0]
        missing = size - new[0], size - new[1]
        image = torch.nn.functional.pad(
            image, [missing[1] // 2, missing[1] - missing[1] // 2, missing[0] // 2, missing[0] - missing[0] // 2])
    mean, deviation = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
    return (image - mean[:, None, None]) / deviation[:, None, None]


def fnv(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


def main():
    cases = []
    for height, width, size in SIZES:
        short = min(height, width)
        # torchvision.transforms.Resize(size) and CenterCrop(size)
        new_height, new_width = (size if side == short else int(size * side / short) for side in (height, width))
        resized = Image.fromarray(picture(height, width)).resize((new_width, new_height), Image.Resampling.BICUBIC)
        top, left = round((new_height - size) / 2), round((new_width - size) / 2)
        cropped = numpy.asarray(resized)[top : top + size, left : left + size]
        mean = (cropped.reshape(-1, 3) / 255 - [0.48145466, 0.4578275, 0.40821073]) / [0.26862954, 0.26130258, 0.27577711]
        padded = long_side(picture(height, width), size)
        cases.append(
            {
                "long_side_mean": padded.double().mean(dim=(1, 2)).tolist(), "long_side_middle": padded[:, size // 2, size // 3].tolist(),
                "height": height, "width": width, "size": size, "resized": [new_height, new_width],
                "resized_checksum": fnv(resized.tobytes()), "first": numpy.asarray(resized)[0, 0].tolist(),
                "input_mean": mean.mean(axis=0).tolist(), "input_corner": mean[0].tolist(),
            })
    file = pathlib.Path(__file__).with_name("preprocessing.json")
    file.write_text(json.dumps({"pillow": PIL.__version__, "cases": cases}, indent=1) + "\n")


main()
