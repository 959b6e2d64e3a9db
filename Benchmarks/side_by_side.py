"""Two trainings side by side against one alone, in turns, on models/tiny-sd, for some ways to share the processors.

    .venv/bin/python Benchmarks/side_by_side.py --rounds 5 --ways own processes 300000
    .venv/bin/python Benchmarks/side_by_side.py --aesthetic

A way is a value of GOMP_SPINCOUNT, `own`, which leaves that to dag-train, or `processes`, which is `--processes auto`. Seconds are
medians; CPU is the time of all processors together, which shows what threads spend on waiting for each other. With --aesthetic each
training's reward is a neural one in a worker, the aesthetic plugin on a small CLIP with random weights, which computes while the sampler
does.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
RUN = f"""--model {ROOT}/models/tiny-sd --prompts tiny-sd --steps 10 --epochs 2 --sample-batch-size 16 --batches-per-epoch 4
    --sample-every 0 --precision bf16""".split()


def aesthetic(folder: pathlib.Path) -> str:
    """Makes a small CLIP and a head for it, and returns the reward that uses them."""
    import torch
    import transformers

    torch.manual_seed(0)
    sizes = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 4, "patch_size": 32}
    config = transformers.CLIPVisionConfig(**sizes, image_size=224, projection_dim=768)
    transformers.CLIPVisionModelWithProjection(config).save_pretrained(folder / "clip")
    widths = [768, 1024, 128, 64, 16, 1]
    layers = [torch.nn.Linear(width, next_width) for width, next_width in zip(widths, widths[1:])]
    # The published head has dropout between its linear layers, which are numbers 0, 2, 4, 6 and 7.
    state = {f"layers.{number}.{key}": value for number, layer in zip([0, 2, 4, 6, 7], layers) for key, value in layer.state_dict().items()}
    torch.save(state, folder / "head.pth")
    return f"aesthetic,weights={folder}/head.pth,clip={folder}/clip"


def measure(count: int, reward: str, way: str) -> tuple[float, float]:
    """Seconds until `count` trainings, started together, have ended, and those of all processors together."""
    environment = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    if way.isdigit():
        environment["GOMP_SPINCOUNT"] = way
    with tempfile.TemporaryDirectory() as folder:
        start, before = time.monotonic(), os.times()
        command = [ROOT / ".build/release/dag-train", *RUN, "--reward-plugin", reward]
        if way == "processes":
            command += ["--processes", "auto"]
        started = [
            subprocess.Popen([*command, "--output", f"{folder}/{number}"], env=environment, stdout=subprocess.DEVNULL)
            for number in range(count)
        ]
        if any([process.wait() for process in started]):
            raise SystemExit("a training has failed")
        after = os.times()
        busy = after.children_user + after.children_system - before.children_user - before.children_system
        return time.monotonic() - start, busy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ways", nargs="+", default=["own", "processes"], help="own, processes, or values of GOMP_SPINCOUNT")
    parser.add_argument("--aesthetic", action="store_true", help="a neural reward in a worker")
    options = parser.parse_args()
    figures: dict[tuple[str, int], list[tuple[float, float]]] = {(way, count): [] for way in options.ways for count in (1, 2)}
    with tempfile.TemporaryDirectory() as folder:
        reward = aesthetic(pathlib.Path(folder)) if options.aesthetic else "libwarmth.so"
        for _ in range(options.rounds):
            for (way, count), measured in figures.items():
                measured.append(measure(count, reward, way))
    for way in options.ways:
        one, two = ([statistics.median(column) for column in zip(*figures[way, count])] for count in (1, 2))
        ratio = statistics.median(b[0] / a[0] for a, b in zip(figures[way, 1], figures[way, 2]))
        print(f"{way:>9}: one {one[0]:6.1f} s, CPU {one[1]:6.1f} s; two {two[0]:6.1f} s, CPU {two[1]:6.1f} s; two to one {ratio:.2f}")


if __name__ == "__main__":
    main()
