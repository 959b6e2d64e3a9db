"""Writes the seeds of Fuzzing/Corpus: small valid inputs of every target, from the shipped models, the goldens and by hand.

    .venv/bin/python Fuzzing/seeds.py

Inputs that were found by fuzzing lie beside them and are left alone: their names begin with `found-`.
"""
import gzip
import io
import json
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
CORPUS, GOLDENS, MODELS = ROOT / "Fuzzing/Corpus", ROOT / "Tests/Goldens", ROOT / "models"


def seed(target, name, content):
    """Writes one seed."""
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def safetensors(tensors, metadata=None):
    """A file of {name: (type, shape, bytes)}."""
    header, body = {}, b""
    if metadata:
        header["__metadata__"] = metadata
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def floats(*shape):
    return "F32", list(shape), np.linspace(0.1, 1, int(np.prod(shape)), dtype="<f4").tobytes()


class Storage:
    """Stands for a storage of torch in a pickle, which refers to it by a persistent id."""


class Tensor:
    """Is pickled as torch.save does it."""

    def __init__(self, storage, shape, strides, offset=0):
        self.arguments = (storage, offset, shape, strides, False, {})

    def __reduce__(self):
        return rebuild, self.arguments


def rebuild(*_):
    """Stands for torch._utils._rebuild_tensor_v2."""


class Pickler(pickle._Pickler):
    """Writes the names of torch's functions in place of those here. (The C pickler checks names by importing them.)"""

    def persistent_id(self, value):
        return ("storage", Type, "0", "cpu", 4) if isinstance(value, Storage) else None

    def save_global(self, value, name=None):
        names = {rebuild: "torch._utils\n_rebuild_tensor_v2", Type: "torch\nFloatStorage"}
        if value not in names:
            return super().save_global(value, name)
        self.write(b"c" + names[value].encode() + b"\n")
        self.memoize(value)

    dispatch = dict(pickle._Pickler.dispatch)
    dispatch[type] = save_global
    dispatch[type(rebuild)] = save_global


class Type:
    """Stands for torch.FloatStorage."""


def pickled(value, protocol=2):
    file = io.BytesIO()
    Pickler(file, protocol).dump(value)
    return file.getvalue()


def torch_file(value, checksums=True):
    """A torch.save file; without checksums mutations get past them."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, data in [("data.pkl", pickled(value)), ("data/0", np.arange(4, dtype="<f4").tobytes()), ("version", b"3\n")]:
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), data)
    data = bytearray(file.getvalue())
    place = data.find(b"PK\1\2")
    while not checksums and place >= 0:
        data[place + 16 : place + 20] = bytes(4)
        place = data.find(b"PK\1\2", place + 4)
    return bytes(data)


def tensor_seeds():
    seed("safetensors", "types", safetensors({
        "a": floats(2, 3), "b": ("BF16", [2], bytes(4)), "c": ("I64", [], bytes(8)), "d": ("F8_E4M3", [3], bytes(3)), "e": ("F16", [0, 4], b"")
    }, {"format": "pt"}))
    seed("safetensors", "empty", safetensors({}))
    a, b = Tensor(Storage(), (2, 2), (2, 1)), Tensor(Storage(), (2,), (1,), 2)
    state = {"weight": a, "layers": [{"bias": b}, 3, None, 1.5, True], "step": 7, ("odd", "key"): b"bytes"}
    for protocol in (2, 4):
        seed("pickle", f"state-{protocol}", pickled(state, protocol))
    seed("pickle", "shared", pickled([state, state, "text" * 80, 1 << 40]))
    seed("torch-file", "plain", torch_file({"weight": a, "bias": b}))
    seed("torch-file", "no-checksums", torch_file({"state": {"weight": a}}, checksums=False))
    layer = "mid_block.attn1.to_q"
    stem = "lora_unet_" + layer.replace(".", "_")
    settings = {f"unet.{key}": value for key, value in [
        ("r", 2), ("lora_alpha", 4), ("rank_pattern", {"to_q": 2}), ("alpha_pattern", {r"mid.*\.to_q": 3}), ("use_rslora", True)]}
    down, up = floats(2, 4), floats(4, 2)
    for name, content in {
        "kohya": safetensors({f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up, f"{stem}.alpha": floats()}),
        "peft": safetensors({f"unet.{layer}.lora_A.weight": down, f"unet.{layer}.lora_B.weight": up},
                            {"lora_adapter_metadata": json.dumps(settings)}),
        "diffusers": safetensors({f"{layer}.lora.down.weight": down, f"{layer}.lora.up.weight": up}),
        "processors": safetensors({"unet.mid_block.attn1.processor.to_q_lora.down.weight": down,
                                   "unet.mid_block.attn1.processor.to_q_lora.up.weight": up}),
    }.items():
        seed("lora", name, content)
    norm = {f"bn1.{part}": floats(1) for part in ("weight", "bias", "running_mean", "running_var")}
    seed("classifier", "one-layer", safetensors(
        {"conv1.weight": floats(1, 1, 3, 3), **norm, "fc.weight": floats(2, 1), "fc.bias": floats(2)},
        {"input_size": "4", "classes": "a+b", "mean": "0.5", "std": "0.25"}))


def model_seeds():
    for target, folders in {
        "unet": [MODELS / "tiny-sd/unet", MODELS / "tiny-ddpm/unet", GOLDENS / "unet-sd2", GOLDENS / "ddpm-heads", GOLDENS / "unet-nomid"],
        "vae": [MODELS / "tiny-sd/vae", GOLDENS / "vae-odd", GOLDENS / "vae-legacy"],
        "text-encoder": [MODELS / "tiny-sd/text_encoder", GOLDENS / "clip-sd2"],
    }.items():
        for folder in folders:
            name = folder.parent.name if folder.parent.parent == MODELS else folder.name
            seed(target, name, (folder / "config.json").read_bytes())
    for name in ("tiny-sd", "tiny-ddpm"):
        seed("scheduler", name, (MODELS / name / "scheduler/scheduler_config.json").read_bytes())
        seed("model-index", name, (MODELS / name / "model_index.json").read_bytes())
    scheduler = {"_class_name": "PNDMScheduler", "beta_schedule": "squaredcos_cap_v2", "timestep_spacing": "trailing", "steps_offset": 1}
    seed("scheduler", "cosine", json.dumps({**scheduler, "rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}))
    seed("scheduler", "trained", json.dumps({"trained_betas": [0.1, 0.2, 0.3], "timestep_spacing": "linspace", "clip_sample": None}))


def text_seeds():
    merges, added = ["c a", "ca t</w>"], {"<|startoftext|>": 5, "<|endoftext|>": 6}
    vocabulary = {"c": 0, "a": 1, "t</w>": 2, "ca": 3, "cat</w>": 4, **added}
    config = {"model_max_length": 9, "bos_token": "<|startoftext|>", "padding_side": "right",
              "added_tokens_decoder": {"5": {"content": "<|startoftext|>", "special": True}, "7": {"content": "Dog", "normalized": True}}}
    special = {"pad_token": {"content": "<|endoftext|>", "normalized": False}, "unk_token": "<|endoftext|>"}
    files = [json.dumps(vocabulary), "#version: 0.2\n" + "\n".join(merges) + "\n"]
    seed("tokenizer", "configured", "\f".join([*files, json.dumps(config), "", "", "a cat, a Dog"]))
    seed("tokenizer", "older", "\f".join([*files, "", json.dumps(special), json.dumps({"<new>": 7}), "cat<new>cat"]))
    whole = {"model": {"type": "BPE", "vocab": vocabulary, "merges": merges}, "added_tokens": [
        {"id": number, "content": name, "special": True, "normalized": False} for name, number in added.items()]}
    seed("tokenizer-json", "strings", json.dumps(whole))
    whole["model"]["merges"] = [merge.split(" ") for merge in merges]
    seed("tokenizer-json", "pairs", json.dumps(whole))
    lines = '"bpe_simple_vocab_16e6.txt#version: 0.2\nc a\nca t</w>\n'
    seed("open-clip", "plain", lines)
    seed("open-clip", "compressed", gzip.compress(lines.encode(), mtime=0))
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat", "##s", "a", "."]
    seed("wordpiece", "small", "\n".join(pieces) + "\n\fA cat's cats. \u00e9\u4e2d")
    for number, text in enumerate(["a photo of a cat, 35mm", "L'\u00c9T\u00c9 it's \ud55c\uad6d\uc5b4 \u4e2d\u6587 \u03a3\u03c2",
                                   "&amp;#39;&eacute;&lt;|endoftext|&gt; <b>\r\n",
                                   "e\u0301\u0323 \ufb01 \u0132 \U0001f44d\U0001f3fd \u2019\u201c \x85\x00",
                                   "<start_of_text> <|STARTOFTEXT|> [MASK]"]):
        seed("text", str(number), text)
    for name, text in {
        "lines": "a cat\r\n\r\na dog\n", "table": 'Prompts,Category\n"a, b",x\n"say ""hi""",\n', "tabs": 'prompt\tseed\na "cat"\t1\n',
        "list": '["a cat", {"prompt": "a dog", "seed": 1}]', "json-lines": '{"prompt": "a"}\n"b"\n\n', "mark": "\ufeffprompt\na\n",
    }.items():
        seed("prompts", name, text)


def setting_seeds():
    for name in ("tiny-sd-warmth", "sd15-jpeg-ddpo"):
        seed("settings", name, (ROOT / f"examples/configs/{name}.yaml").read_bytes())
    seed("settings", "forms", "model: m\nreward_plugin: [a, 'b,weight=0.5']\nbeta: 1e2\nseed: 0x10\n"
         "per_prompt_statistics: yes\nthreads: &n 2\nepochs: *n\n")
    seed("settings", "json", '{"model": "m", "learning_rate": 3e-4, "algorithm": "dag-kl", "steps": 10}')
    for number, text in enumerate([
        "jpeg_compressibility,objective=incompressibility,quality=90,weight=-0.5,normalize=true",
        'c:libz.so.1,score="int crc32(int n = 0, const char *pixels, int size)",on_failure=impute:-1e3,timeout=2.5',
        "./my_reward.py,python=venv/bin/python,workers=4,device=cuda:1,on_failure=drop,isolation=worker",
    ]):
        seed("specification", str(number), text)
    for number, text in enumerate([
        "double sharpness(const uint8_t *gray, int width, int height)",
        'int bad = Init(void *api, const char *path = NULL, const char *language = "eng"); '
        'float score = Run(void *api, unsigned char *pixels, int n = 0x10)'
        "\fvoid *api = Create()",
        "int 0 = f(unsigned long long id, struct x *buffer, size_t buffer_size); _Bool g(void)",
    ]):
        seed("prototypes", str(number), text)


def image_seeds():
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 255, (5, 7, 3), dtype=np.uint8)
    rgb = Image.fromarray(pixels)
    kinds = {
        "rgb": rgb, "grey": rgb.convert("L"), "palette": rgb.quantize(8), "alpha": rgb.convert("RGBA"), "bits": rgb.convert("1"),
        "deep": Image.fromarray(generator.integers(0, 65535, (3, 4), dtype=np.uint16)),
    }
    for name, image in kinds.items():
        file = io.BytesIO()
        image.save(file, "PNG")
        seed("png", name, file.getvalue())
    for name, image, options in [
        ("rgb", rgb, {}), ("grey", rgb.convert("L"), {}), ("cmyk", rgb.convert("CMYK"), {}), ("progressive", rgb, {"progressive": True}),
        ("halved", rgb, {"subsampling": 2, "restart_marker_blocks": 1}),
    ]:
        file = io.BytesIO()
        image.save(file, "JPEG", **options)
        seed("jpeg", name, file.getvalue())


def worker_seeds():
    def message(value, data=b""):
        text = json.dumps(value).encode()
        return struct.pack("=II", len(text), len(data)) + text + data

    description = {
        "name": "mine", "version": "1", "description": "d", "license": "MIT", "source": "s", "open_options": False, "devices": ["cpu"],
        "objectives": [{"name": "score", "direction": "maximize", "description": "d"}, {"name": "b", "direction": "minimize", "description": ""}],
        "options": [{"key": "quality", "default": "1", "description": "d"}], "thread_mode": "per_instance", "deterministic": True,
        "largest_batch": 8}
    seed("worker", "description", message({"description": description, "protocol": 2}))
    seed("worker", "made", message({"made": "fingerprint"}))
    seed("worker", "scores", message({"scores": {"1": "reason"}}, np.array([1, 2, np.nan], dtype="<f4").tobytes()))
    seed("worker", "error", message({"error": "reason"}))


for write in (tensor_seeds, model_seeds, text_seeds, setting_seeds, image_seeds, worker_seeds):
    write()
