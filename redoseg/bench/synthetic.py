"""Folders of pictures that are made, and how much memory a verb takes on them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from redoseg.bench.results import Watched
from redoseg.errors import DataError
from redoseg.system import own_memory

DISTINCT = 32  # photographs that are made; the others are links to them


def photograph(image: NDArray[np.uint8], width: int, height: int, rng: np.random.Generator) -> Image.Image:
    """A small picture (H, W, 3) blown up, with a camera's noise on it."""
    large = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
    noise = rng.normal(0, 6, (height, width, 1)) + rng.normal(0, 2, (height, width, 3))
    return Image.fromarray((np.asarray(large) + noise).clip(0, 255).astype(np.uint8))


def fill_folder(folder: Path, images: Sequence[Image.Image], count: int) -> None:
    """JPEGs in sub-folders of 1,000: the images, and links to them until there are `count`."""
    for i in range(count):
        here = folder / f"{i // 1000:04}"
        if i % 1000 == 0:
            here.mkdir(parents=True)
        path = here / f"{i:07}.jpg"
        if i < len(images):
            images[i].save(path, quality=90)
        else:
            os.link(folder / "0000" / f"{i % len(images):07}.jpg", path)


def watched(images: int, *arguments: str | Path) -> Watched:
    """Speed and peak memory of `redoseg` on so many pictures, start-up included, all its processes together."""
    started, peak = time.perf_counter(), 0
    command = [sys.executable, "-m", "redoseg", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, own_memory(process.pid))
            time.sleep(0.05)
    if process.returncode:
        raise DataError(
            f"redoseg {arguments[0]} on {images} pictures ended with exit code {process.returncode}; see above"
        )
    return {
        "pictures": images,
        "per_second": round(images / (time.perf_counter() - started), 1),
        "peak_own_memory_mb": round(peak / 1e6, 1),
    }
