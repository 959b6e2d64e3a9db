"""Rewards of this repository in other trainers: what TRL and flow_grpo call, made of what dagcore.load_reward returns.

    pip install ./python            # in the repository, after make install; or a wheel of make wheel
    python examples/embed-python/rewards.py libwarmth.so models/tiny-sd/samples.png
"""
import argparse

import dagcore
import numpy
from PIL import Image


def for_trl(reward, images="images"):
    """A reward function of TRL: `(prompts, completions, **columns) -> list[float]`, where a column or the completions are images of PIL."""

    def score(prompts, completions=None, **columns):
        return reward(columns.get(images, completions), prompts)

    score.__name__ = reward.name  # under which TRL logs it
    return score


def for_flow_grpo(reward):
    """A reward function of flow_grpo: `(images, prompts, metadata) -> (scores, info)`, images float [n, 3, height, width] from 0 to 1."""

    def score(images, prompts, metadata):
        pixels = numpy.asarray(images.float().cpu()) if hasattr(images, "cpu") else numpy.asarray(images)
        if pixels.dtype != numpy.uint8:
            pixels = (pixels.transpose(0, 2, 3, 1) * 255).round().clip(0, 255).astype(numpy.uint8)
        return {"avg": reward(pixels, prompts, metadata or None)}, {}

    return score


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("reward", help="what --reward-plugin takes")
    parser.add_argument("image", nargs="+")
    options = parser.parse_args()
    images = [Image.open(path) for path in options.image]
    with dagcore.load_reward(options.reward) as reward:
        print("objectives:", reward.scores(images))
        print("TRL:", for_trl(reward)([""] * len(images), images=images))
        floats = numpy.asarray(images[0].convert("RGB"), numpy.float32).transpose(2, 0, 1)[None] / 255
        print("flow_grpo:", for_flow_grpo(reward)(floats, [""], [{}])[0])


if __name__ == "__main__":
    main()
