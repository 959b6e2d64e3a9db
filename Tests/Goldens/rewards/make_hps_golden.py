"""The Human Preference Score of two images by open_clip's CLIP and hpsv2's preprocessing, at a small size with weights made by a formula.

    pip install torchvision==0.28.0 open_clip_torch==3.3.0 transformers==4.38.2
    pip download --no-deps hpsv2==1.2.0 && unzip hpsv2-1.2.0-py3-none-any.whl -d hps
    python make_hps_golden.py hps
"""
import json
import pathlib
import sys

import open_clip
import torch
from make_imagereward_goldens import PICTURES, by_formula, formula_picture
from make_preprocessing_goldens import hps_transform
from open_clip.tokenizer import SimpleTokenizer

HERE = pathlib.Path(__file__).parent
PROMPTS = ["A photo of the Object, returns &amp; values", "naïve “café” " * 40]


def main(folder):
    tokenizer = SimpleTokenizer(str(HERE.parent / "tokenizer/open-clip/bpe.txt.gz"))
    model = open_clip.model.CLIP(
        embed_dim=48, vision_cfg=dict(image_size=28, layers=2, width=128, head_width=64, patch_size=14, mlp_ratio=2),
        text_cfg=dict(context_length=77, vocab_size=tokenizer.vocab_size, width=128, heads=2, layers=2), quick_gelu=False).eval()
    state = model.state_dict()
    shapes = {name: list(tensor.shape) for name, tensor in state.items()}
    for index, name in enumerate(sorted(state)):
        state[name].copy_(torch.from_numpy(by_formula(index, shapes[name], name)))
    transform = hps_transform(folder)(28)
    images = torch.stack([transform(formula_picture(height, width)) for height, width in PICTURES])
    with torch.no_grad():
        scores = (model.encode_image(images, normalize=True) * model.encode_text(tokenizer(PROMPTS), normalize=True)).sum(-1)
    print(scores)
    (HERE / "hps.json").write_text(json.dumps({"shapes": shapes, "prompts": PROMPTS, "pictures": PICTURES, "scores": scores.tolist()}) + "\n")


main(sys.argv[1])
