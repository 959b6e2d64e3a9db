"""Sizes of Pillow's JPEG encodings of images made by a formula: writes jpeg_sizes.json beside this file. Needs Pillow."""
import io
import json
import pathlib

from PIL import Image

SHAPES = [(32, 32), (37, 53), (1, 1), (128, 96)]  # height, width
SUBSAMPLING = ["4:4:4", "4:2:2", "4:2:0"]  # in Pillow's numbering


def picture(index, height, width):
    return bytes(((x * (3 + index) + y * (5 + c)) ^ ((x * y) >> 2)) & 255
                 for y in range(height) for x in range(width) for c in range(3))


def size(index, shape, **options):
    buffer = io.BytesIO()
    Image.frombytes("RGB", shape[::-1], picture(index, *shape)).save(buffer, "JPEG", **options)
    return buffer.tell()


cases = []
for height, width in SHAPES:
    cases.append({"height": height, "width": width, "options": {}, "sizes": [size(i, (height, width), quality=95) for i in range(4)]})
    for quality in (30, 95, 100):
        for code, name in enumerate(SUBSAMPLING):
            cases.append({"height": height, "width": width, "options": {"quality": str(quality), "subsampling": name},
                          "sizes": [size(i, (height, width), quality=quality, subsampling=code) for i in range(4)]})
text = ",\n".join(json.dumps(case) for case in cases)
pathlib.Path(__file__).with_suffix(".json").write_text(f"[\n{text}\n]\n")
