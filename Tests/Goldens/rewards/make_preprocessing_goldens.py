"""What the public code makes of images before a network sees them: checksums over every pixel.

    pip install torchvision==0.28.0 transformers==4.38.2
    pip download --no-deps hpsv2==1.2.0 && unzip hpsv2-1.2.0-py3-none-any.whl -d hps
    python make_preprocessing_goldens.py hps

Pictures are made by a formula. Bytes have a hash. HPSv2's input, which is never rounded to bytes, has eight sums with weights by a formula: one
pixel that is off by 1/255 changes at least one of them by more than rounding does.
"""
import importlib.util
import json
import pathlib
import sys
import types

import numpy
import PIL
import torch
import torchvision
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor
from transformers import CLIPImageProcessor

SIZES = [(31, 57, 224), (57, 31, 224), (512, 512, 224), (768, 1024, 224), (1024, 768, 224), (32, 32, 224), (224, 224, 224), (225, 224, 224),
         (1, 1, 8), (13, 300, 16), (301, 300, 28)]
MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SUMS = 8


def picture(height, width):
    y, x, c = numpy.mgrid[0:height, 0:width, 0:3]
    return ((x * x * 7 + y * 31 + x * y * (c + 1) + c * 85) // 3 % 256).astype(numpy.uint8)


def hps_transform(folder):
    """hpsv2's open_clip/transform.py, without the rest of the package."""
    source = pathlib.Path(folder, "hpsv2/src/open_clip")
    package = sys.modules["hps_open_clip"] = types.ModuleType("hps_open_clip")
    package.__path__ = [str(source)]
    spec = importlib.util.spec_from_file_location("hps_open_clip.transform", source / "transform.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda size: module.image_transform(size, is_train=False, resize_longest_max=True)


def fnv(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


def weighted_sums(values):
    values = values.double().numpy().reshape(-1)
    noise = [numpy.sin(12.9898 * numpy.arange(values.size, dtype=numpy.float64) + 78.233 * k) * 43758.5453 for k in range(SUMS)]
    return [float(((n - numpy.floor(n) - 0.5) * values).sum()) for n in noise]


def main(folder):
    hps, cases = hps_transform(folder), []
    for height, width, size in SIZES:
        image = Image.fromarray(picture(height, width))
        resized = Resize(size, interpolation=InterpolationMode.BICUBIC)(image)
        cropped = CenterCrop(size)(resized)
        clip = Compose([Resize(size, interpolation=InterpolationMode.BICUBIC), CenterCrop(size), ToTensor(), Normalize(MEAN, DEVIATION)])(image)
        processor = CLIPImageProcessor(size={"shortest_edge": size}, crop_size=size, do_rescale=False, do_normalize=False)
        transformers = processor(image, return_tensors="np", input_data_format="channels_last").pixel_values[0].transpose(1, 2, 0).astype(numpy.uint8)
        cases.append({
            "height": height, "width": width, "size": size, "resized": [resized.height, resized.width],
            "resized_checksum": fnv(resized.tobytes()), "cropped_checksum": fnv(cropped.tobytes()),
            "transformers_checksum": fnv(transformers.tobytes()), "clip_sums": weighted_sums(clip), "hps_sums": weighted_sums(hps(size)(image))})
    versions = {"pillow": PIL.__version__, "torch": torch.__version__, "torchvision": torchvision.__version__}
    lines = ",\n".join(json.dumps(case) for case in cases)
    pathlib.Path(__file__).with_name("preprocessing.json").write_text(f'{{"versions": {json.dumps(versions)}, "cases": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main(sys.argv[1])
