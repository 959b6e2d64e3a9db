"""Trains the shipped model with a Python function as reward: how blue the thing in the middle is.

    pip install ./python            # in the repository, after make install; or a wheel of make wheel
    python examples/embed-python/train.py runs/blue
"""
import argparse
import logging
import pathlib

import dagcore


def blueness(images, prompts, metadata):
    """uint8 [n, height, width, 3] -> n numbers from -1 to 1: blue minus the mean of red and green, in the middle."""
    n, height, width, _ = images.shape
    middle = images[:, height // 4 : -height // 4, width // 4 : -width // 4].mean(axis=(1, 2)) / 255
    return middle[:, 2] - (middle[:, 0] + middle[:, 1]) / 2


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("output", type=pathlib.Path, help="a new folder")
    parser.add_argument("--model", type=pathlib.Path, default=pathlib.Path(__file__).parents[2] / "models/tiny-sd")
    parser.add_argument("--epochs", type=int, default=8)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    settings = {
        "model": options.model, "prompts": "tiny-sd", "epochs": options.epochs, "steps": 10,
        "sample_batch_size": 64, "batches_per_epoch": 1, "train_batch_size": 8, "gradient_accumulation_steps": 4,
        "beta": 50, "beta_annealing": 0, "learning_rate": 1e-3, "flow_learning_rate": 3e-3, "seed": 1, "sample_every": 0,
    }
    with dagcore.Trainer(settings, rewards=[blueness], output=options.output) as trainer:
        for epoch in trainer:
            print(f"epoch {epoch.index}: reward {epoch.metrics['reward_mean']:.3f}, best {epoch.samples.rewards.max():.3f}")
    print(f"LoRA: {trainer.lora}")


if __name__ == "__main__":
    main()
