"""Preparing pictures, against a plain loop over the same files."""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from redoseg.bench.results import PrepareResult, Watched
from redoseg.bench.synthetic import DISTINCT, fill_folder, photograph, watched
from redoseg.bench.timing import hardware, side_by_side
from redoseg.data import Item, Listing, open_prepared, write_prepared
from redoseg.data.decoding import decode, decode_item
from redoseg.data.folder import list_folder
from redoseg.data.shapes import generate
from redoseg.errors import DataError
from redoseg.files import printable, temporary_folder
from redoseg.images.photo import fit_square
from redoseg.system import cores


def plain_loop(path: Path, size: int) -> NDArray[np.uint8]:
    """The reference: open, convert, resize the full picture, crop. Returns (size, size, 3)."""
    with Image.open(path) as file:
        image = file.convert("RGB")
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)))


def bench_prepare(
    *,
    source: Path | None = None,
    images: int = 256,
    size: int = 128,
    rounds: int = 5,
    workers: int = 0,
    small: int = 0,
) -> PrepareResult:
    """Preparing against a plain loop over the same large JPEGs, what reduced decoding changes, and peak memory.

    Args:
        source: folder of JPEGs to measure on; if None, photograph-like ones of 2,000 to 3,200 pixels are made.
        images: how many to make.
        size: side to prepare at [pixels].
        rounds: times that both take turns.
        workers: threads that decode; 0 for one a core.
        small: also prepare so many small pictures and watch the memory; 0 leaves that out.
    """
    if rounds < 1:
        raise DataError(f"--rounds is {rounds}; choose 1 or more")
    with temporary_folder("bench") as place:
        if source is None:
            source = place / "large"
            _make_large(source, images)
        found = list_folder(source).items
        # what is read once is in the page cache for both
        with contextlib.closing(decode(found, size, threads=workers or cores())) as seen:
            items = [item for item, one in zip(found, seen, strict=True) if not one.problems]
        if not items:
            raise DataError(f"{printable(source)} has no picture that can be read; choose a folder of JPEGs")
        unlabelled = Listing(tuple(Item(i.name, i.image) for i in items))

        def ours() -> None:
            write_prepared(place / "out", "bench", unlabelled, size=size, source=source, workers=workers, at_least=1)
            shutil.rmtree(place / "out")

        def plain() -> None:
            for item in items:
                plain_loop(item.image, size)

        grey, changed = _differences(items[:DISTINCT], size)
        timed = side_by_side({"plain loop": plain, "redoseg": ours}, len(items), rounds)
        result: PrepareResult = {
            "pictures": len(items),
            "megapixels": round(float(np.median([_megapixels(i.image) for i in items[:DISTINCT]])), 2),
            "size": size,
            "workers": workers or cores(),
            "hardware": hardware(),
            "per_second": timed["per_second"],
            "ratio": timed["ratio"],
            "mean_difference_grey_levels": round(statistics.mean(grey), 3),
            "largest_mean_difference_grey_levels": round(max(grey), 3),
            "mask_pixels_changed": changed,
        }
        if small:
            result["small"] = _memory(place, small, size, workers)
        return result


def _differences(items: Sequence[Item], size: int) -> tuple[list[float], int]:
    """What reduced decoding changes: the mean difference of each picture [grey levels], and pixels of all masks."""
    grey: list[float] = []
    pixels = 0
    for item in items:
        reduced = decode_item(item, size)
        with Image.open(item.image) as file:
            full = np.asarray(fit_square(file.convert("RGB"), size))
        assert reduced.image is not None
        grey.append(float(np.abs(reduced.image.astype(int) - full).mean()))
        if item.mask is not None:
            with Image.open(item.mask) as file:
                mask = np.asarray(fit_square(file, size, Image.Resampling.NEAREST))
            pixels += mask.size if reduced.mask is None else int(np.not_equal(reduced.mask, mask).sum())
    return grey, pixels


def _megapixels(path: Path) -> float:
    with Image.open(path) as image:
        return image.width * image.height / 1e6


def _make_large(folder: Path, count: int) -> None:
    """Built-in pictures blown up with a camera's noise on them, and their masks."""
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    rng = np.random.default_rng(0)
    images, labels = generate("shapes-hard", min(count, DISTINCT), 128, seed=0)
    for i in range(count):
        image, mask = folder / "images" / f"{i:05}.jpg", folder / "masks" / f"{i:05}.png"
        if i < len(images):
            width, height = (int(v) for v in rng.integers(2000, 3200, 2))
            photograph(images[i], width, height, rng).save(image, quality=90)
            label = Image.fromarray(labels[i].astype(np.uint8) * 255)
            label.resize((width, height), Image.Resampling.NEAREST).save(mask, compress_level=1)
        else:
            for path in (image, mask):
                os.link(path.with_stem(f"{i % len(images):05}"), path)


def _memory(place: Path, count: int, size: int, workers: int) -> Watched:
    """Peak memory of `redoseg prepare` on many small pictures, all its processes together."""
    images, _ = generate("shapes-hard", 256, 160, seed=1)
    fill_folder(place / "small", [Image.fromarray(image) for image in images], count)
    settings = f"--size {size} --workers {workers}".split()
    result = watched(count, "prepare", "folder", *settings, "--source", place / "small", "--out", place / "many")
    assert len(open_prepared(place / "many")) == count
    return result
