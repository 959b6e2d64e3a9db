"""Writes goldens.json: small PNG and JPEG files of every kind, and the pixels of Pillow's Image.open(file).convert("RGB"); or what is wrong.

python make_image_goldens.py (Pillow 13.0, numpy)
"""

import base64
import io
import json
import pathlib
import struct
import zlib

import numpy
from PIL import Image

HEIGHT, WIDTH = 11, 19
random = numpy.random.default_rng(0)
goldens = {}


def chunk(kind, data, flip=0):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ flip)


def png(depth, kind, rows, before=b"", interlaced=0, height=HEIGHT, width=WIDTH, packed=None, after=b"", end=None):
    packed = packed or zlib.compress(rows)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlaced))
    return b"\x89PNG\r\n\x1a\n" + header + before + chunk(b"IDAT", packed) + after + (chunk(b"IEND", b"") if end is None else end)


def packed_rows(values, depth):
    """Packs samples [rows, columns, channels] as a PNG's rows without a filter."""
    rows = []
    for row in values.reshape(len(values), -1):
        if depth == 16:
            data = row.astype(">u2").tobytes()
        else:
            bits = (row[:, None] >> numpy.arange(depth - 1, -1, -1) & 1).astype(numpy.uint8)
            data = numpy.packbits(bits.reshape(-1)).tobytes()
        rows.append(b"\0" + data)
    return b"".join(rows)


def adam7(values, depth):
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    return b"".join(packed_rows(values[y::dy, x::dx], depth) for x, y, dx, dy in passes)


def right(name, file):
    image = Image.open(io.BytesIO(file)).convert("RGB")
    pixels = base64.b64encode(numpy.asarray(image).tobytes()).decode()
    goldens[name] = {"file": base64.b64encode(file).decode(), "height": image.height, "width": image.width, "rgb": pixels}


def wrong(name, file, message):
    goldens[name] = {"file": base64.b64encode(file).decode(), "message": message}


channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
gamma, chromaticity = chunk(b"gAMA", struct.pack(">I", 100000)), chunk(b"cHRM", struct.pack(">8I", *[31270, 32900, 50000, 33000, 30000, 50000, 15000, 6000]))
for kind, depths in {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}.items():
    for depth in depths:
        values = random.integers(0, 2**depth, (HEIGHT, WIDTH, channels[kind]))
        colours = chunk(b"PLTE", random.integers(0, 256, 3 * min(2**depth, 200), numpy.uint8).tobytes()) if kind == 3 else b""
        if kind == 3:
            values %= 200
        if kind == 0 and depth == 16:
            values //= random.integers(1, 500, values.shape)  # Pillow clips at 255
        name = f"png kind {kind} depth {depth}"
        right(name, png(depth, kind, packed_rows(values, depth), colours))
        right(name + " interlaced", png(depth, kind, adam7(values, depth), colours, 1))
        right(name + " gamma", png(depth, kind, packed_rows(values, depth), gamma + chromaticity + colours))
        if kind in (0, 2, 3):
            clear = bytes([0, 128]) if kind == 3 else values[0, 0].astype(">u2").tobytes()
            right(name + " tRNS", png(depth, kind, packed_rows(values, depth), colours + chunk(b"tRNS", clear)))

values = random.integers(0, 256, (HEIGHT, WIDTH, 3))
rows = packed_rows(values, 8)
whole = png(8, 2, rows)
indices = packed_rows(random.integers(0, 9, (HEIGHT, WIDTH, 1)), 8)
right("png sRGB, sBIT, bKGD, profile that is none", png(8, 2, rows, chunk(b"sRGB", b"\0") + chunk(b"sBIT", b"\5\5\5") + chunk(b"iCCP", b"x\0\0zzz") + chunk(b"bKGD", bytes(6))))
right("png palette that is too short", png(8, 3, indices, chunk(b"PLTE", bytes(range(1, 19)))))
right("png without end", png(8, 2, rows, end=b""))
right("png with a tail", whole + b"tail")
right("png with more data than pixels", png(8, 2, rows + b"more" * 30))
right("png with a fault after the pixels", png(8, 2, rows, after=chunk(b"tEXt", b"a\0b", 1)))
checksum = bytearray(zlib.compress(rows))
checksum[-1] ^= 1
wrong("png cut", whole[: len(whole) * 6 // 10], "it is cut short")
wrong("png cut after the header", whole[:40], "it is cut short")
wrong("png of fewer rows", png(8, 2, rows[: len(rows) // 2]), "Not enough image data")
wrong("png with a wrong checksum of the data", png(8, 2, rows, packed=bytes(checksum)), "incorrect data check")
wrong("png with a flipped byte", whole[:80] + bytes([whole[80] ^ 255]) + whole[81:], "IDAT: incorrect data check")
wrong("png with a fault before the pixels", png(8, 2, rows, chunk(b"tEXt", b"a\0b", 1)), "CRC error")
wrong("png of 40000 x 40000", png(8, 2, b"", height=40000, width=40000), "declares 40000 x 40000 pixels, more than 178956970")
wrong("png of 9000 x 9000", png(8, 2, b"", height=9000, width=9000), "declares 9000 x 9000 pixels, which 65 bytes cannot hold")

y, x = numpy.mgrid[0:23, 0:29]
smooth = numpy.stack([x * 8, y * 10, 255 - x * 4 - y], -1) + random.normal(0, 9, (23, 29, 3))
image = Image.fromarray(smooth.clip(0, 255).astype(numpy.uint8))


def jpeg(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


for name, options in {
    "4:4:4": {"subsampling": 0}, "4:2:2": {"subsampling": 1}, "4:2:0": {"subsampling": 2}, "progressive": {"progressive": True},
    "restarts": {"restart_marker_rows": 1}, "RGB": {"keep_rgb": True}, "quality 20": {"quality": 20},
}.items():
    right("jpeg " + name, jpeg(image, **options))
right("jpeg grey", jpeg(image.convert("L")))
right("jpeg CMYK", jpeg(image.convert("CMYK")))
right("jpeg turned by EXIF", jpeg(image, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"))
cmyk = numpy.asarray(image.convert("CMYK")).copy()
cmyk[:, :, 3] = x * 6
inks = jpeg(Image.fromarray(cmyk, "CMYK"))
right("jpeg CMYK with black", inks)
adobe = inks.index(b"Adobe")
right("jpeg YCCK", inks[: adobe + 11] + b"\2" + inks[adobe + 12 :])
file = jpeg(image)
right("jpeg with a tail", file + b"tail")
wrong("jpeg cut", file[: len(file) * 6 // 10], "Premature end of JPEG file")
wrong("jpeg without its last bytes", file[:-2], "Premature end of JPEG file")
progressive = jpeg(image, progressive=True)
wrong("jpeg progressive, cut", progressive[: len(progressive) * 6 // 10], "Premature end of JPEG file")
middle = len(file) - 200
wrong("jpeg with zeros", file[:middle] + bytes(60) + file[middle + 60 :], "Corrupt JPEG data")
start = file.index(b"\xff\xc0") + 5
wrong("jpeg of 65500 x 65500", file[:start] + b"\xff\xdc\xff\xdc" + file[start + 4 :], "declares 65500 x 65500 pixels, more than 178956970")
wrong("jpeg of 9000 x 9000", file[:start] + b"\x23\x28\x23\x28" + file[start + 4 :], "declares 9000 x 9000 pixels, which")
for kind in ("GIF", "BMP", "TIFF", "WebP"):
    buffer = io.BytesIO()
    image.resize((2, 2)).save(buffer, kind)
    wrong(kind, buffer.getvalue(), f"it is of the kind {kind}; save it as PNG or JPEG")
wrong("text", b"no image", "neither a PNG nor a JPEG file")
pathlib.Path(__file__).with_name("goldens.json").write_text(json.dumps(goldens, indent=0, sort_keys=True) + "\n")
