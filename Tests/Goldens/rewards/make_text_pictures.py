"""Two images of 256 x 96: words, and lines that are none. python make_text_pictures.py"""
import pathlib

from PIL import Image, ImageDraw, ImageFont

here = pathlib.Path(__file__).parent
for name in ("words", "lines"):
    picture = Image.new("RGB", (256, 96), "white")
    draw = ImageDraw.Draw(picture)
    if name == "words":
        draw.text((16, 30), "READ THIS NOW", fill="black", font=ImageFont.load_default(30))
    else:
        for k in range(24):
            draw.line((11 * k, 20 + 13 * k % 50, 240 - 7 * k, 90 - 17 * k % 70), fill="black")
    picture.save(here / f"{name}.png", optimize=True)
