"""ImageReward's published classes at a small size: scores. Needs the source of PyPI's image-reward 1.5 (unpacked; its folder is the
argument) and transformers 4.38, whose helpers it imports; timm and fairscale are stood in for, as no weights of theirs are used.

    pip install torchvision==0.28.0 transformers==4.38.2
    pip download --no-deps image-reward==1.5 && unzip image_reward-1.5-py3-none-any.whl -d ir
    python make_imagereward_goldens.py ir
"""
import importlib
import json
import math
import pathlib
import sys
import types

import numpy
import torch
from PIL import Image
from torch import nn

HERE = pathlib.Path(__file__).parent
WIDTH, LAYERS, IMAGE, PATCH = 128, 2, 32, 16


def module(name, **members):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__dict__.update(members)
    return sys.modules[name]


class PatchEmbed(nn.Module):
    """timm's, as BLIP uses it."""

    def __init__(self, img_size, patch_size, in_chans, embed_dim):
        super().__init__()
        self.num_patches = (img_size // patch_size) ** 2
        self.proj = nn.Conv2d(in_chans, embed_dim, patch_size, patch_size)

    def forward(self, x):
        return self.proj(x).flatten(2).transpose(1, 2)


PICTURES = [[31, 57], [64, 40]]


def formula_picture(height, width):
    """As in make_preprocessing_goldens.py."""
    y, x, c = numpy.mgrid[0:height, 0:width, 0:3]
    return Image.fromarray(((x * x * 7 + y * 31 + x * y * (c + 1) + c * 85) // 3 % 256).astype(numpy.uint8))


def published(folder):
    """ImageReward's classes, without what their package imports besides."""
    import transformers.modeling_utils
    import transformers.pytorch_utils  # before timm is stood in for, because they look for it

    nothing = lambda *arguments, **named: None
    module("timm")
    module("timm.models")
    module("timm.models.vision_transformer", _cfg=nothing, PatchEmbed=PatchEmbed)
    module("timm.models.registry", register_model=nothing)
    module("timm.models.layers", trunc_normal_=nn.init.trunc_normal_, DropPath=nn.Identity)
    module("timm.models.helpers", named_apply=nothing, adapt_input_conv=nothing)
    module("timm.models.hub", download_cached_file=nothing)
    module("fairscale")
    module("fairscale.nn")
    module("fairscale.nn.checkpoint")
    module("fairscale.nn.checkpoint.checkpoint_activations", checkpoint_wrapper=nothing)
    for name in ("ImageReward", "ImageReward.models", "ImageReward.models.BLIP"):
        module(name).__path__ = [str(pathlib.Path(folder, *name.split(".")))]
    for name in ("apply_chunking_to_forward", "find_pruneable_heads_and_indices", "prune_linear_layer"):
        setattr(transformers.modeling_utils, name, getattr(transformers.pytorch_utils, name))
    return importlib.import_module("ImageReward.models.BLIP.vit"), importlib.import_module("ImageReward.models.BLIP.med")


class Small(nn.Module):
    """ImageReward with small towers, or in its full size; its score is `ImageReward.score_gard`."""

    def __init__(self, vit, med, vocabulary, full=False):
        super().__init__()
        width, layers, image = (1024, 24, 224) if full else (WIDTH, LAYERS, IMAGE)
        text, text_layers, inner, positions = (768, 12, 3072, 512) if full else (WIDTH, LAYERS, 192, 64)
        self.blip = nn.Module()
        self.blip.visual_encoder = vit.VisionTransformer(
            img_size=image, patch_size=PATCH, embed_dim=width, depth=layers, num_heads=width // 64)
        config = med.BertConfig(
            vocab_size=vocabulary, hidden_size=text, num_hidden_layers=text_layers, num_attention_heads=text // 64, intermediate_size=inner,
            max_position_embeddings=positions, add_cross_attention=True, layer_norm_eps=1e-12)
        config.encoder_width = width
        self.blip.text_encoder = med.BertModel(config=config, add_pooling_layer=False)
        self.mlp = nn.Module()
        drop = nn.Dropout(0.2)
        self.mlp.layers = nn.Sequential(
            nn.Linear(text, 1024), drop, nn.Linear(1024, 128), drop, nn.Linear(128, 64), drop, nn.Linear(64, 16), nn.Linear(16, 1))

    def score(self, ids, mask, image):
        features = self.blip.visual_encoder(image)
        atts = torch.ones(features.size()[:-1], dtype=torch.long)
        out = self.blip.text_encoder(
            ids, attention_mask=mask, encoder_hidden_states=features, encoder_attention_mask=atts, return_dict=True)
        return (self.mlp.layers(out.last_hidden_state[:, 0, :].float()) - 0.16717362830052426) / 1.0333394966054072


def by_formula(index, shape, name):
    """Numbers that any language can make again: no weights have to be stored."""
    noise = numpy.sin(12.9898 * numpy.arange(math.prod(shape), dtype=numpy.float64) + 78.233 * index) * 43758.5453
    values = noise - numpy.floor(noise) - 0.5
    if name.endswith(("norm1.weight", "norm2.weight", "norm.weight", "LayerNorm.weight")):
        values = 1 + 0.2 * values
    elif "embed" in name and "proj" not in name:
        values = 2 * values
    elif len(shape) > 1:
        values = values * (12 / math.prod(shape[1:])) ** 0.5
    return values.astype(numpy.float32).reshape(shape)


PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + [chr(c) for c in range(33, 127) if not chr(c).isupper()] + [
    "##" + chr(c) for c in range(33, 127) if chr(c).isalnum() and not chr(c).isupper()] + [
    "the", "a", "photo", "of", "##oto", "red", "boot", "on", "blue", "back", "##ground", "##s", "##ing", "un", "##known", "cafe", "naive",
    "wo", "##rld", "日", "本", "##ß", "straße", "é", "ö", "σ", "ς", "##σ", "##ς", "α", "##α", "и", "##и", "м", "##р", "\u1112", "##\u1161", "##\u11ab", "…", "“", "”", "—", "€"]
PIECES = list(dict.fromkeys(PIECES))  # each once


def main(folder):
    vit, med = published(folder)
    from transformers import BertTokenizer

    vocabulary = HERE / "imagereward_vocab.txt"
    vocabulary.write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    tokenizer = BertTokenizer(str(vocabulary))
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    tokenizer.add_special_tokens({"additional_special_tokens": ["[ENC]"]})

    torch.manual_seed(0)
    model = Small(vit, med, len(PIECES) + 2).eval()
    state = {name: tensor for name, tensor in model.state_dict().items() if not name.endswith("position_ids")}
    shapes = {}
    for index, name in enumerate(sorted(state)):
        shapes[name] = list(state[name].shape)
        state[name].copy_(torch.from_numpy(by_formula(index, shapes[name], name)))
    prompts = ["a photo of the red boot", "", "unknown backgrounds " * 30, "日本 café, don't"]
    images = torch.from_numpy(numpy.sin(0.1 * numpy.arange(4 * 3 * IMAGE * IMAGE, dtype=numpy.float64)).astype(numpy.float32).reshape(4, 3, IMAGE, IMAGE))
    text = tokenizer(prompts, padding="max_length", truncation=True, max_length=35, return_tensors="pt")
    with torch.no_grad():
        scores = model.score(text.input_ids, text.attention_mask, images).reshape(-1)
        mixed = model.score(text.input_ids.flip(0), text.attention_mask.flip(0), images).reshape(-1)
    # What the plugin does, from bytes on.
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor

    preprocess = Compose([Resize(IMAGE, interpolation=InterpolationMode.BICUBIC), CenterCrop(IMAGE), ToTensor(),
                          Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))])
    pictures = [formula_picture(height, width) for height, width in PICTURES]
    inputs = torch.stack([preprocess(picture) for picture in pictures])
    with torch.no_grad():
        whole = model.score(text.input_ids[: len(pictures)], text.attention_mask[: len(pictures)], inputs).reshape(-1)
    print(scores, mixed, whole)
    (HERE / "imagereward.json").write_text(
        json.dumps({"shapes": shapes, "prompts": prompts, "scores": scores.tolist(), "scores_of_reversed_prompts": mixed.tolist(), "pictures": PICTURES, "picture_scores": whole.tolist()},
                   separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
