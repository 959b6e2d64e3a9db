"""The aesthetic score of two images, as DDPO and DAG compute it, with the small CLIP of clip-vision-2/ and a head made by a formula.

    pip install transformers==4.38.2
    python make_aesthetic_golden.py
"""
import json
import pathlib

import torch
from make_imagereward_goldens import PICTURES, by_formula, formula_picture
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

HERE = pathlib.Path(__file__).parent


def main():
    clip = CLIPVisionModelWithProjection.from_pretrained(HERE / "clip-vision-2").float().eval()
    size = clip.config.image_size
    processor = CLIPImageProcessor(size={"shortest_edge": size}, crop_size=size)
    widths = [clip.config.projection_dim, 1024, 128, 64, 16, 1]
    shapes = {}
    for place, (inputs, outputs) in zip([0, 2, 4, 6, 7], zip(widths, widths[1:])):
        shapes[f"layers.{place}.weight"], shapes[f"layers.{place}.bias"] = [outputs, inputs], [outputs]
    weights = {name: torch.from_numpy(by_formula(k, shapes[name], name)) for k, name in enumerate(sorted(shapes))}
    scores = []
    with torch.no_grad():
        for height, width in PICTURES:
            x = clip(processor(formula_picture(height, width), return_tensors="pt").pixel_values).image_embeds
            x = x / x.norm(dim=-1, keepdim=True)
            for place in [0, 2, 4, 6, 7]:
                x = x @ weights[f"layers.{place}.weight"].T + weights[f"layers.{place}.bias"]
            scores.append(x.item())
    print(scores)
    (HERE / "aesthetic.json").write_text(json.dumps({"shapes": shapes, "pictures": PICTURES, "scores": scores}) + "\n")


main()
