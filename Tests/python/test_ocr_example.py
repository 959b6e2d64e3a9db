"""The example examples/plugins/ocr: a reward that is told by metadata which text to look for."""
import importlib.util
import json
import shutil
from pathlib import Path

import numpy
import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples/plugins/ocr"
spec = importlib.util.spec_from_file_location("ocr", FOLDER / "ocr.py")
ocr = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ocr)


@pytest.mark.parametrize(
    "found, wanted, expected",
    [
        ("OPEN", "open", 1), (" Open\n", "O pen", 1), ("", "OPEN", 0), ("OPEM", "OPEN", 0.75), ("OPE", "OPEN", 0.75),
        ("OPENN", "OPEN", 0.75), ("POEN", "OPEN", 0.5), ("something else", "OPEN", 0), ("", "", 1), ("x", "", 0),
    ],
)  # fmt: skip
def test_likeness(found, wanted, expected):
    assert ocr.likeness(found, wanted) == expected
    assert ocr.distance(found, wanted) == ocr.distance(wanted, found)


def test_prompts_ask_for_their_texts():
    rows = [json.loads(line) for line in (FOLDER / "prompts.jsonl").read_text().splitlines()]
    assert len(rows) == 8 and all(f'"{row["text"]}"' in row["prompt"] for row in rows)


@pytest.mark.skipif(shutil.which("tesseract") is None, reason="needs the program tesseract, which scripts/setup.sh --python installs")
def test_images_are_read():
    image = pytest.importorskip("PIL.Image")
    images = [numpy.asarray(image.open(ROOT / f"Tests/Goldens/rewards/{name}.png")) for name in ("words", "lines")]
    ocr.setup()
    metadata = [{"text": "Read this now"}, {"text": "Read this now"}, {}]
    scores = ocr.score(numpy.stack([*images, images[0]]), ["a note", "a note", "read that now"], metadata)
    assert scores[0] == 1 and scores[1] < 0.5 and scores[2] == 1 - 2 / 11
    with pytest.raises(RuntimeError, match="^tesseract: .*nowhere"):
        ocr.setup(language="nowhere")
        ocr.score(numpy.stack(images), ["", ""], [{}, {}])
