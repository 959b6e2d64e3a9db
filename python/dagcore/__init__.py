"""Post-trains diffusion models so that they sample in proportion to a reward, which may be any Python function of images.

    import dagcore

    def redness(images, prompts, metadata):            # uint8 [n, height, width, 3] -> n numbers
        return images[..., 0].mean(axis=(1, 2)) / 255

    with dagcore.Trainer(model="models/tiny-sd", prompts="tiny-sd", epochs=5, rewards=[redness], output="runs/red") as trainer:
        for epoch in trainer:
            print(epoch.index, epoch.metrics["reward_mean"])
        images = trainer.sample(["a red boot on a blue background"], seeds=[7])

Everything runs in this process, in libdagcore.so; torch is not imported. What the settings mean is in docs/configuration.md.
"""

__version__ = "0.1.0"

from ._errors import BusyError, Cancelled, DagError, InvalidError, OrderError
from ._library import default_config, library_path, torch_version, version
from ._rewards import Reward
from ._scorer import LoadedReward, load_reward
from ._trainer import Epoch, Samples, Status, Trainer

__all__ = [
    "BusyError",
    "Cancelled",
    "DagError",
    "Epoch",
    "InvalidError",
    "LoadedReward",
    "OrderError",
    "Reward",
    "Samples",
    "Status",
    "Trainer",
    "default_config",
    "library_path",
    "load_reward",
    "torch_version",
    "version",
]
