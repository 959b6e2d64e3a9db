"""Make the CLIP goldens of this folder: small random towers, and what transformers and open_clip compute with them.

    pip install -r ../requirements.txt open_clip_torch==3.3.0
    python make_clip_goldens.py

Writes beside itself
    clip-vision/    a whole CLIPModel (quick_gelu), pictures with their image_embeds, and ids with their text_embeds
    clip-vision-2/  a CLIPVisionModelWithProjection with exact GELU
    open-clip/      open_clip's CLIP as safetensors and as a training checkpoint, both features, and ids with their end at many places

Weights are rounded to float16; safetensors are stored so. Models, inputs and outputs are float32.
"""
import copy
import shutil
from pathlib import Path

import open_clip
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig, CLIPVisionModelWithProjection

HERE = Path(__file__).parent


def fresh(case):
    folder = HERE / case
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def randomised(model, seed):
    """Weights far from their initial values, so that every one matters, rounded to float16."""
    g = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.data = (p + (0.2 if p.ndim == 1 else 0.1) * torch.randn(p.shape, generator=g)).detach().half().float()
    return model.eval().requires_grad_(False)


def noise(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def save(path, **tensors):
    assert all(t.isfinite().all() for t in tensors.values())
    save_file({name: t.detach().contiguous() for name, t in tensors.items()}, path)


def transformers_cases():
    tower = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, image_size=28, patch_size=14)
    text = dict(vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=8,
                bos_token_id=30, eos_token_id=31)
    images = noise(1, 3, 3, 28, 28)
    whole = CLIPModel(CLIPConfig(vision_config=tower | {"hidden_act": "quick_gelu"}, text_config=text, projection_dim=24))
    config = CLIPVisionConfig(**(tower | dict(patch_size=7, num_attention_heads=2, hidden_act="gelu", projection_dim=20)))
    for case, model in {"clip-vision": whole, "clip-vision-2": CLIPVisionModelWithProjection(config)}.items():
        model = randomised(model, seed=len(case))
        folder = fresh(case)
        copy.deepcopy(model).half().save_pretrained(folder)
        if case == "clip-vision":  # the published files have these buffers of older versions
            weights = load_file(folder / "model.safetensors")
            for tower, count in {"vision_model": 5, "text_model": 8}.items():
                weights[tower + ".embeddings.position_ids"] = torch.arange(count)[None]
            save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        again = type(model).from_pretrained(folder, torch_dtype=torch.float32).eval()
        embeds = again.visual_projection(again.vision_model(images).pooler_output)
        if case == "clip-vision-2":
            assert torch.equal(embeds, again(images).image_embeds)
            save(folder / "golden.safetensors", images=images, image_embeds=embeds)
            continue
        ids = torch.randint(1, 30, (3, 8), generator=torch.Generator().manual_seed(2))
        for row, end in enumerate([7, 4, 1]):
            ids[row, 0], ids[row, end], ids[row, end + 1:] = 30, 31, 31  # the first of several ends counts
        texts = again.text_projection(again.text_model(ids).pooler_output)
        save(folder / "golden.safetensors", images=images, image_embeds=embeds, ids=ids, text_embeds=texts, logit_scale=again.logit_scale.exp())


def open_clip_case():
    model = open_clip.model.CLIP(
        embed_dim=24, vision_cfg=dict(image_size=28, layers=2, width=24, head_width=24, patch_size=14, mlp_ratio=3),
        text_cfg=dict(context_length=12, vocab_size=50, width=16, heads=1, layers=3), quick_gelu=False)
    model = randomised(model, seed=5)
    folder = fresh("open-clip")
    state = model.state_dict()
    save_file({k: v.half().contiguous() for k, v in state.items()}, folder / "open_clip_model.safetensors")
    # HPSv2's form, as several GPUs leave it, with the causal mask that old versions keep.
    old = {"module." + k: v.half() for k, v in state.items()} | {"module.attn_mask": model.attn_mask}
    torch.save({"epoch": 3, "name": "test", "state_dict": old, "optimizer": {"step": torch.ones(1)}}, folder / "checkpoint.pt")
    ids = torch.randint(1, 48, (4, 12), generator=torch.Generator().manual_seed(2))
    for row, end in enumerate([11, 5, 1, 8]):
        ids[row, 0], ids[row, end], ids[row, end + 1:] = 48, 49, 0
    ids[3, 10] = 49  # the first of two ends counts
    images = noise(3, 3, 3, 28, 28)
    save(folder / "golden.safetensors", images=images, ids=ids, image_features=model.encode_image(images, normalize=True),
         text_features=model.encode_text(ids, normalize=True), logit_scale=model.logit_scale.exp())


if __name__ == "__main__":
    torch.manual_seed(0)
    transformers_cases()
    open_clip_case()
