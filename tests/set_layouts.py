"""Small copies of research sets in their own layouts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def picture(path: Path, value: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (value, 100, 50)).save(path)
    return path


def mask(path: Path, rows: list[list[tuple[int, ...]]] | list[list[int]], file_format: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(rows, np.uint8)).save(path, file_format)
    return path


def flowers102(source: Path, ids: dict[str, list[int]] | None = None, there: range = range(1, 11)) -> Path:
    for number in there:
        picture(source / "jpg" / f"image_{number:05d}.jpg", 10 * (number % 25))
    ids = ids or {"trnid": [1, 2], "valid": [3], "tstid": [*range(4, 10), 99]}
    savemat(source / "setid.mat", {key: np.array([value], np.uint16) for key, value in ids.items()})
    return source


def faces(folder: Path, people: int = 20) -> Path:
    for i in range(people):
        picture(folder / f"Some_One{i:02}" / f"Some_One{i:02}_0001.jpg")
    return folder


def parts(folder: Path, people: range) -> None:
    for i in people:
        path = folder / "parts_lfw_funneled_gt_images" / f"Some_One{i:02}_0001.ppm"
        mask(path, [[RED, GREEN, BLUE], [GREEN, BLUE, BLUE]])
