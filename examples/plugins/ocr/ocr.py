"""How much of a text an image shows: 1 - edit distance / length, of what Tesseract reads in it.

Metadata says which text, a prompt a line: {"prompt": "a sign that says OPEN", "text": "OPEN"}. Without, it is the prompt itself.
"""
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

NAME = "ocr"
VERSION = "1.0.0"
DESCRIPTION = "likeness of the text that Tesseract reads to the text that was asked for, 0 to 1"
LICENSE = "Apache-2.0"
SOURCE = "https://github.com/tesseract-ocr/tesseract"
OBJECTIVES = {"likeness": "maximize"}
DETERMINISTIC = True

settings = {}


def setup(language="eng", segmentation=6):
    """language, segmentation: Tesseract's -l and --psm; 6 is a block of text, 11 takes text wherever it is."""
    if shutil.which("tesseract") is None:
        raise RuntimeError("there is no program tesseract; on Debian: apt install tesseract-ocr")
    settings.update(language=language, segmentation=segmentation)


def read(image):
    """The text that Tesseract reads in an image, uint8 [height, width, 3]."""
    height, width, _ = image.shape
    result = subprocess.run(
        ["tesseract", "stdin", "stdout", "-l", settings["language"], "--psm", str(settings["segmentation"])],
        input=b"P6 %d %d 255\n" % (width, height) + image.tobytes(),
        capture_output=True,
        env={**os.environ, "OMP_THREAD_LIMIT": "1"},  # a process for each image is enough
    )
    if result.returncode != 0:
        raise RuntimeError(f"tesseract: {result.stderr.decode(errors='replace').strip()}")
    return result.stdout.decode()


def distance(a, b):
    """Levenshtein's edit distance: insertions, deletions and substitutions that make one text of the other."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]


def likeness(found, wanted):
    """1 if both are the same but for case and white space, 0 if as much has to be changed as is wanted."""
    found, wanted = ("".join(text.split()).casefold() for text in (found, wanted))
    return max(0.0, 1 - distance(found, wanted) / max(1, len(wanted)))


def score(images, prompts, metadata):
    """Called with each batch: see docs/reward-plugins.md."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(read, images))
    return [likeness(text, row.get("text", prompt)) for text, prompt, row in zip(found, prompts, metadata)]
