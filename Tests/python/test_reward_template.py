"""examples/plugins/python/my_reward.py gives the variance of the Laplacian over its limit, here computed from its definition."""
import importlib.util
from pathlib import Path

import numpy as np
import pytest

TEMPLATE = Path(__file__).parents[2] / "examples/plugins/python/my_reward.py"


@pytest.fixture
def reward():
    specification = importlib.util.spec_from_file_location("my_reward", TEMPLATE)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def sharpness(image):
    height, width, _ = image.shape
    grey = lambda y, x: float(image[min(max(y, 0), height - 1), min(max(x, 0), width - 1)] @ [0.299, 0.587, 0.114]) / 255
    laplacian = [grey(y - 1, x) + grey(y + 1, x) + grey(y, x - 1) + grey(y, x + 1) - 4 * grey(y, x)
                 for y in range(height) for x in range(width)]
    mean = sum(laplacian) / len(laplacian)
    return sum((value - mean) ** 2 for value in laplacian) / len(laplacian)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1), (9, 12)])
def test_scores_are_the_variance_of_the_laplacian(reward, size):
    images = np.random.default_rng(0).integers(0, 256, (4, *size, 3), dtype=np.uint8)
    images[3] = 90
    images.flags.writeable = False
    reward.setup(limit=100)
    scores = np.asarray(reward.score(images, [""] * 4, [{}] * 4))
    assert scores.shape == (4,)
    np.testing.assert_allclose(scores, [sharpness(image) / 100 for image in images], atol=1e-14)


def test_the_limit_bounds_the_score(reward):
    noise = np.random.default_rng(1).integers(0, 256, (1, 8, 8, 3), dtype=np.uint8)
    reward.setup(limit=0.01)
    assert reward.score(noise, [""], [{}])[0] == 1
    with pytest.raises(ValueError, match="limit=0 is not above 0"):
        reward.setup(limit=0)


def test_what_the_host_reads_is_there(reward):
    assert reward.OBJECTIVES == {"sharpness": "maximize"} and reward.DETERMINISTIC is True
    assert all(getattr(reward, name) for name in ("NAME", "VERSION", "DESCRIPTION", "LICENSE", "SOURCE"))
