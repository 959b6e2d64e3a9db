"""Features of DINOv2 by transformers' Dinov2Model and BitImageProcessor, at small sizes with weights made by a formula, and a Frechet distance.

    pip install -r ../requirements.txt pillow
    python make_feature_goldens.py

Writes beside itself
    dinov2/          config.json and preprocessor_config.json as transformers writes them, and golden.json: the weights' shapes, pictures' sizes
                     with their features, whose positions are interpolated, and features of an image that has the positions' own size
    frechet.json     two sets of features, one of them weighted, and the distance by the eigenvalues of the covariances' product
"""
import json
import pathlib
import shutil
import sys

import numpy
import torch
from transformers import BitImageProcessorPil, Dinov2Config, Dinov2Model

HERE = pathlib.Path(__file__).parent
sys.path.append(str(HERE.parent / "rewards"))
from make_imagereward_goldens import by_formula, formula_picture  # noqa: E402

PICTURES = [[31, 57], [64, 40], [56, 56], [96, 120]]


def dinov2(folder):
    shutil.rmtree(folder, ignore_errors=True)
    config = Dinov2Config(
        architectures=["Dinov2Model"], hidden_size=48, num_hidden_layers=2, num_attention_heads=4, mlp_ratio=2, image_size=56, patch_size=14)
    config.save_pretrained(folder)
    processor = BitImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 28, "width": 28}, image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])
    processor.save_pretrained(folder)
    model = Dinov2Model(config)
    model.save_pretrained(folder)
    from safetensors.torch import load_file, save_file  # the names of files are not those of the class

    shapes = {name: list(tensor.shape) for name, tensor in load_file(folder / "model.safetensors").items()}
    weights = {
        name: torch.from_numpy(by_formula(index, shapes[name], name)).float().contiguous() for index, name in enumerate(sorted(shapes))}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    model = Dinov2Model.from_pretrained(folder).eval()
    (folder / "model.safetensors").unlink()
    pixels = torch.sin(0.1 * torch.arange(3 * 56 * 56, dtype=torch.float64)).float().reshape(1, 3, 56, 56)
    with torch.no_grad():
        features = [model(**processor(formula_picture(*size), return_tensors="pt")).pooler_output[0].tolist() for size in PICTURES]
        own = model(pixels).pooler_output[0].tolist()
    golden = dict(shapes=shapes, pictures=PICTURES, features=features, own_size=own)
    (folder / "golden.json").write_text(json.dumps(golden) + "\n")


def frechet(file):
    random = numpy.random.default_rng(0)
    one = random.normal(size=(40, 5)) @ random.normal(size=(5, 5))
    other = random.normal(size=(30, 5)) @ random.normal(size=(5, 5)) + 0.3
    weights = random.uniform(size=30)
    weights /= weights.sum()
    a, b = numpy.cov(one.T), numpy.cov(other.T, aweights=weights)
    means = one.mean(0) - weights @ other
    product = numpy.sqrt(numpy.linalg.eigvals(a @ b).astype(complex)).real.sum()
    distance = means @ means + numpy.trace(a) + numpy.trace(b) - 2 * product
    file.write_text(json.dumps(dict(one=one.tolist(), other=other.tolist(), weights=weights.tolist(), distance=distance)) + "\n")


dinov2(HERE / "dinov2")
frechet(HERE / "frechet.json")
