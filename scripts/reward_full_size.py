"""The neural rewards at their published size against the public Python code: random weights in the published file format, the same images.

    python scripts/reward_full_size.py aesthetic|clipscore|hps|imagereward|pickscore [--folder DIR] [--pictures N] [--image-reward DIR]

Prints the largest difference in score, pictures a second of both in float32 and bfloat16 (alternating, medians), and the peak memory of
`dag-reward score`. Needs, besides torch: transformers (aesthetic), open_clip_torch (hps), both (clipscore and pickscore; of the second the
vocabulary alone), or PyPI's image-reward 1.5 unpacked in --image-reward with transformers 4.38 (imagereward). The folder takes 2 to 4 GB; one
that is not named is removed at the end.
"""
import argparse
import gzip
import importlib.util
import json
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import numpy
import torch
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / ".build/release"
MEAN, DEVIATION = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
PROMPTS = ["a photo of a red boot", "two dogs, oil painting", "", "the quick brown fox jumps over the lazy dog"]


def clip_input(picture):
    """torchvision's Resize(224, BICUBIC), CenterCrop(224), ToTensor, Normalize on a Pillow image, which is square here."""
    resized = numpy.asarray(Image.fromarray(picture).resize((224, 224), Image.Resampling.BICUBIC))
    return normalised(torch.from_numpy(resized.copy()).permute(2, 0, 1).float() / 255)


def hps_input(picture):
    """hpsv2's transform: the long side of a float tensor to 224; a square image needs no padding."""
    image = torch.from_numpy(picture.copy()).permute(2, 0, 1).float() / 255
    return normalised(torch.nn.functional.interpolate(image[None], size=(224, 224), mode="bicubic", antialias=True)[0])


def normalised(image):
    return (image - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None]


def inputs(transform, pictures, dtype):
    return torch.stack([transform(picture) for picture in pictures]).to(dtype)


def golden_script(path):
    """A script of Tests/Goldens as a module."""
    spec = importlib.util.spec_from_file_location("goldens", ROOT / "Tests/Goldens" / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def head():
    """The linear head of the aesthetic score and of ImageReward: no activations."""
    layers = torch.nn.Module()
    drop = torch.nn.Dropout(0.2)
    sizes = [768, 1024, 128, 64, 16, 1]
    linear = [torch.nn.Linear(*pair) for pair in zip(sizes, sizes[1:])]
    layers.layers = torch.nn.Sequential(linear[0], drop, linear[1], drop, linear[2], drop, linear[3], linear[4])
    return layers


def aesthetic(folder, options):
    from transformers import CLIPConfig, CLIPModel

    vision = dict(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, image_size=224, patch_size=14)
    text = dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
    model, mlp = CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=768)).eval(), head().eval()
    model.save_pretrained(folder / "clip")
    torch.save(mlp.state_dict(), folder / "head.pth")

    def score(pictures, prompts, dtype):
        model.to(dtype)
        found = model.vision_model(pixel_values=inputs(clip_input, pictures, dtype)).pooler_output
        features = model.visual_projection(found).float()
        return mlp.layers(features / features.norm(dim=-1, keepdim=True))[:, 0]

    return score, dict(weights=folder / "head.pth", clip=folder / "clip")


def hps(folder, options):
    import open_clip

    model = open_clip.create_model("ViT-H-14").eval()
    # As published: half precision, under "state_dict".
    torch.save({"epoch": 1, "state_dict": {name: tensor.half() for name, tensor in model.state_dict().items()}}, folder / "hps.pt")
    model.load_state_dict({name: tensor.half().float() for name, tensor in model.state_dict().items()})
    tokenizer = open_clip.get_tokenizer("ViT-H-14")
    vocabulary = pathlib.Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"

    def score(pictures, prompts, dtype):
        model.to(dtype)
        images = model.encode_image(inputs(hps_input, pictures, dtype), normalize=True)
        return (images * model.encode_text(tokenizer(prompts), normalize=True)).sum(-1).float()

    return score, dict(weights=folder / "hps.pt", vocabulary=vocabulary)


def clip(folder, factor, projection, vision, text):
    """A CLIP of transformers as it saves one, in which cosines are multiplied by a factor."""
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    model = CLIPModel(CLIPConfig(
        vision_config=vision | dict(image_size=224, patch_size=14), text_config=text, projection_dim=projection,
        logit_scale_init_value=float(numpy.log(factor)))).eval()
    model.save_pretrained(folder)
    CLIPImageProcessorPil().save_pretrained(folder)
    package = importlib.util.find_spec("open_clip").submodule_search_locations[0]
    lines = gzip.open(pathlib.Path(package, "bpe_simple_vocab_16e6.txt.gz")).read().decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    golden_script("tokenizer/make_tokenizer_goldens.py").write_files(folder, [tuple(line.split()) for line in lines])
    tokenizer = CLIPTokenizer.from_pretrained(folder)

    def score(pictures, prompts, dtype):
        model.to(dtype)
        text = tokenizer(prompts, padding=True, truncation=True, max_length=77, return_tensors="pt")
        return model(**text, pixel_values=inputs(clip_input, pictures, dtype)).logits_per_image.diag().float()

    return score, dict(weights=folder)


def pickscore(folder, options):
    vision = dict(hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=16, hidden_act="gelu")
    text = dict(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, hidden_act="gelu")
    return clip(folder, 100, 1024, vision, text)


def clipscore(folder, options):
    vision = dict(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16)
    return clip(folder, 100, 768, vision, dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12))


def imagereward(folder, options):
    module = golden_script("rewards/make_imagereward_goldens.py")
    vit, med = module.published(options.image_reward)
    from transformers import BertTokenizer

    # bert-base-uncased has 30,522 tokens, the special ones at these places; which the others are does not matter here.
    special = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103}
    pieces = [f"[unused{k}]" for k in range(30522)]
    for token, place in special.items():
        pieces[place] = token
    others = [piece for piece in module.PIECES if piece not in special]
    pieces[999 : 999 + len(others)] = others
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    tokenizer = BertTokenizer(str(folder / "vocab.txt"))
    model = module.Small(vit, med, 30524, full=True).eval()
    torch.save(model.state_dict(), folder / "ImageReward.pt")

    def score(pictures, prompts, dtype):
        model.blip.to(dtype)
        text = tokenizer(prompts, padding="max_length", truncation=True, max_length=35, return_tensors="pt")
        return model.score(text.input_ids, text.attention_mask, inputs(clip_input, pictures, dtype)).reshape(-1)

    return score, dict(weights=folder / "ImageReward.pt", vocabulary=folder / "vocab.txt")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    rewards = {made.__name__: made for made in (aesthetic, clipscore, hps, imagereward, pickscore)}
    parser.add_argument("reward", choices=rewards)
    parser.add_argument("--folder", type=pathlib.Path)
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--image-reward")
    options = parser.parse_args()
    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
        return compare(rewards[options.reward], options, options.folder)
    with tempfile.TemporaryDirectory() as folder:
        compare(rewards[options.reward], options, pathlib.Path(folder))


def compare(made, options, folder):
    torch.manual_seed(0)
    torch.set_grad_enabled(False)
    python, settings = made(folder, options)

    generator = numpy.random.default_rng(0)
    smooth = generator.integers(0, 256, (options.pictures, 8, 8, 3), dtype=numpy.uint8)
    pictures = [numpy.asarray(Image.fromarray(p).resize((512, 512), Image.Resampling.BICUBIC)) for p in smooth]
    prompts = [PROMPTS[k % len(PROMPTS)] for k in range(options.pictures)]
    expected = python(pictures, prompts, torch.float32)

    # As a user has it, in a process of its own.
    files = []
    for k, picture in enumerate(pictures):
        files.append(str(folder / f"{k}.png"))
        Image.fromarray(picture).save(files[-1])
    (folder / "prompts.txt").write_text("\n".join(prompts) + "\n")
    plugin = f"{options.reward}," + ",".join(f"{key}={value}" for key, value in settings.items())
    command = [str(BUILD / "dag-reward"), "score", plugin, "--json", "--prompts", str(folder / "prompts.txt"), *files]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    scores = torch.tensor([entry["scores"][options.reward] for entry in answer["images"]])
    print(f"scores {scores.tolist()}\npython {expected.tolist()}")
    print(f"largest difference {float((scores - expected).abs().max()):.2g}; peak memory {peak:.0f} MB")

    sys.path.append(str(ROOT / "scripts"))
    from reward_host import Reward

    batch = torch.from_numpy(numpy.stack(pictures))
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        own = Reward(BUILD / f"lib{options.reward}.so", **settings, precision=precision, batch_size=32, threads=0)
        times = {"plugin": [], "python": []}
        for _ in range(options.rounds + 1):
            calls = {
                "plugin": lambda: own.score(batch, prompts),  # noqa: F821  # deleted below, and made anew before the next call
                "python": lambda: python(pictures, prompts, dtype),
            }
            for name, call in calls.items():
                start = time.monotonic()
                found = call()
                times[name].append(time.monotonic() - start)
                if name == "plugin":
                    mine = found[:, 0]
        speeds = {name: options.pictures / statistics.median(seconds[1:]) for name, seconds in times.items()}
        ratio = speeds["plugin"] / speeds["python"]
        print(f"{precision}: plugin {speeds['plugin']:.2f}, python {speeds['python']:.2f} images/s, ratio {ratio:.2f}; "
              f"largest difference to float32 {float((mine - expected).abs().max()):.2g}")
        del own  # before the next is made


if __name__ == "__main__":
    main()
