"""How sharp an image is: the variance of its Laplacian (Pech-Pacheco et al. 2000), of which blurred and plain images have little."""
import numpy as np

NAME = "sharpness"
VERSION = "1.0.0"
DESCRIPTION = "variance of the Laplacian"
LICENSE = "Apache-2.0"
SOURCE = "Pech-Pacheco et al. 2000, doi:10.1109/ICPR.2000.903548"
OBJECTIVES = {"sharpness": "maximize"}
DETERMINISTIC = True
LARGEST_BATCH = 0  # pictures in one call at most; 0: any number

settings = {}


def setup(limit=0.05):
    """Called once, before anything is scored: load models here. The parameters are the reward's options."""
    if limit <= 0:
        raise ValueError(f"limit={limit} is not above 0")
    settings["limit"] = limit


def score(images, prompts, metadata):
    """One number a picture, 0 to 1: `limit` is sharp enough.

    images: uint8 [n, height, width, 3], the host's own memory: read-only, and valid until this returns; take images.copy() to keep it.
    prompts: n strings; metadata: n dicts.
    """
    grey = images.astype(np.float64) @ [0.299, 0.587, 0.114] / 255
    grey = np.pad(grey, ((0, 0), (1, 1), (1, 1)), mode="edge")
    centre = grey[:, 1:-1, 1:-1]
    laplacian = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:] - 4 * centre
    return np.minimum(laplacian.var(axis=(1, 2)) / settings["limit"], 1)
