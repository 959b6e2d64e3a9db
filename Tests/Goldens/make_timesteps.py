"""Writes timesteps.json: checksums of diffusers' timesteps for every number of steps.

A line for each spacing and offset; the checksum of a run's timesteps is the CRC-32 of their decimal numbers, joined by
commas. Counts for which diffusers has a step at time -1 (numpy's range is one too long) are left without that step; those
that leave the schedule are null.

    python make_timesteps.py
"""

import json
import pathlib
import zlib

from diffusers import DDIMScheduler

TRAIN_STEPS = 1000


def checksums(spacing, offset):
    scheduler = DDIMScheduler(num_train_timesteps=TRAIN_STEPS, timestep_spacing=spacing, steps_offset=offset)
    result = []
    for count in range(1, TRAIN_STEPS + 1):
        scheduler.set_timesteps(count)
        times = [t for t in scheduler.timesteps.tolist() if t >= 0]
        inside = all(t < TRAIN_STEPS for t in times)
        result.append(zlib.crc32(",".join(map(str, times)).encode()) if inside else None)
    return result


if __name__ == "__main__":
    cases = [
        {"timestep_spacing": spacing, "steps_offset": offset, "checksums": checksums(spacing, offset)}
        for spacing in ("leading", "linspace", "trailing")
        for offset in (0, 1)
    ]
    text = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    pathlib.Path(__file__).with_name("timesteps.json").write_text(f"[{text}]\n")
