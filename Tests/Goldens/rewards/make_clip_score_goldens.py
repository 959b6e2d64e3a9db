"""PickScore and CLIPScore of four images by transformers' CLIPModel, CLIPTokenizer and CLIPImageProcessor, at small sizes with weights made by a
formula.

    pip install -r ../requirements.txt
    python make_clip_score_goldens.py

Writes beside itself
    clip-score/     configurations as old versions of transformers left them: eos_token_id 2, a text_config that text_config_dict overrides,
                    and sizes of images as numbers
    clip-score-2/   configurations as transformers 5 writes them, with processor_config.json; GELU, and a normalisation that is not CLIP's
each with golden.json: the weights' shapes, images' sizes, prompts, their cosines, and logits_per_image. The tokenizer is that of
../tokenizer/files with the added tokens of ../tokenizer/inverted, which have higher ids than the end token.
"""
import json
import pathlib
import shutil
import tempfile

import torch
from make_imagereward_goldens import by_formula, formula_picture
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

HERE = pathlib.Path(__file__).parent
PICTURES = [[31, 57], [64, 40], [28, 28], [96, 120]]
PROMPTS = ["A photo of the Object, returns values", "naïve “café” " * 40, "the <cat-toy> of values", "one <|endoftext|> two"]
VISION = dict(hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=28, patch_size=14)
TEXT = dict(vocab_size=1691, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=24)


def dump(path, value, **layout):
    path.write_text(json.dumps(value, **layout) + "\n")


def old(folder):
    text = TEXT | dict(eos_token_id=2, bos_token_id=0, num_attention_heads=1, hidden_act="gelu")
    dump(folder / "config.json", dict(
        architectures=["CLIPModel"], model_type="clip", projection_dim=24, text_config=text | dict(attention_dropout=0.0),
        text_config_dict=TEXT | dict(eos_token_id=2), vision_config=VISION | dict(num_channels=3), vision_config_dict=None), indent=1)
    dump(folder / "preprocessor_config.json", dict(
        crop_size=28, do_center_crop=True, do_normalize=True, do_resize=True, feature_extractor_type="CLIPFeatureExtractor",
        image_mean=[0.48145466, 0.4578275, 0.40821073], image_std=[0.26862954, 0.26130258, 0.27577711], resample=3, size=28), indent=1)


def new(folder):
    CLIPConfig(
        architectures=["CLIPModel"], vision_config=VISION | dict(hidden_act="gelu", layer_norm_eps=1e-3),
        text_config=TEXT | dict(hidden_act="gelu", eos_token_id=1687, bos_token_id=1686), projection_dim=20).save_pretrained(folder)
    processor = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size=28, image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.25])
    dump(folder / "processor_config.json", dict(image_processor=processor.to_dict(), processor_class="CLIPProcessor"), indent=1)


def scores(folder):
    """Logits and cosines, and the shapes of the weights; the tokenizer's files are put into a copy of the folder."""
    with tempfile.TemporaryDirectory() as scratch:
        for source in (HERE.parent / "tokenizer/files", HERE.parent / "tokenizer/inverted", folder):
            shutil.copytree(source, scratch, dirs_exist_ok=True)
        tokenizer, processor = CLIPTokenizer.from_pretrained(scratch), CLIPImageProcessorPil.from_pretrained(scratch)
        model = CLIPModel(CLIPConfig.from_pretrained(scratch)).eval()
    assert len(tokenizer) == model.config.text_config.vocab_size
    state = model.state_dict()
    shapes = {name: list(tensor.shape) for name, tensor in state.items()}
    for index, name in enumerate(sorted(state)):
        state[name].copy_(torch.from_numpy(by_formula(index, shapes[name], name)))
    images = processor([formula_picture(*size) for size in PICTURES], return_tensors="pt")
    text = tokenizer(PROMPTS, padding=True, truncation=True, max_length=TEXT["max_position_embeddings"], return_tensors="pt")
    with torch.no_grad():
        found = model(**text, **images)
    return dict(
        shapes=shapes, pictures=PICTURES, prompts=PROMPTS, cosines=(found.image_embeds * found.text_embeds).sum(-1).tolist(),
        logits=found.logits_per_image.diag().tolist())


for name, write in {"clip-score": old, "clip-score-2": new}.items():
    place = HERE / name
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    write(place)
    golden = scores(place)
    print(name, golden["cosines"], golden["logits"])
    dump(place / "golden.json", golden)
