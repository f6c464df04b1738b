"""A prepared set: pictures decoded once into arrays on disk that are memory-mapped.

A folder with `images.npy` (N, H, W, 3), `masks.npy` (N, H, W; missing if nothing is labelled), `items.csv`
(name, source, split, labelled) and `dataset.json`, which says from what and how it was made. `writing` makes it.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from redoseg.data.decoding import square_mask
from redoseg.errors import DataError
from redoseg.files import at_home, describe_error, printable
from redoseg.images.draw import grid, outline
from redoseg.images.photo import fit_square
from redoseg.images.read import BACKGROUND
from redoseg.system import free_memory

FORMAT = 1
_AT_ONCE = 256  # pictures that are hashed at once
AT_LEAST = 8  # pictures: fewer teach nothing
SPLITS = ("train", "val", "dev", "test", "")  # the order in which they are stored

# Label of a mask's byte: 0 background, 255 object 1, 254 object 2, ...; all else is not labelled.
_LABELS = np.full(256, -1, np.int8)
_LABELS[BACKGROUND] = 0
for _object in range(1, 65):
    _LABELS[256 - _object] = _object


@dataclass(frozen=True)
class ImageSet:
    """Square pictures of one size, with their masks where there are any."""

    name: str
    size: int
    """Side of each picture [pixels]."""
    regions: int
    """Regions in the masks, background included."""
    pixels: NDArray[np.uint8]
    """(N, H, W, 3), RGB; may be memory-mapped."""
    masks: NDArray[np.uint8] | None
    """(N, H, W): 0 background, 255 object, 254 second object, 127 not labelled; None if there are none."""
    names: tuple[str, ...]
    splits: tuple[str, ...]
    """"train", "val", "dev", "test" or "", one a picture."""
    labelled: NDArray[np.bool_]
    """(N,): whether the picture has a mask."""
    bad: tuple[tuple[str, str], ...] = ()
    """Files that were not used, each with its reason."""
    notes: tuple[str, ...] = ()
    """What is missing or was decided when the set was prepared."""
    source: str = ""
    """What it was prepared from."""
    mask_values: str = "auto"
    """Which values of the source's masks are the object, as the user said it."""

    def __len__(self) -> int:
        return len(self.names)

    def labels(self, indices: Sequence[int] | NDArray[np.integer[Any]] | None = None) -> NDArray[np.int8]:
        """Labels (n, H, W), of all if None: 0 background, 1 object, 2 second object, -1 not labelled."""
        chosen = np.arange(len(self)) if indices is None else np.asarray(indices, np.int64)
        if self.masks is None:
            return np.full((len(chosen), self.size, self.size), -1, np.int8)
        return _LABELS[self.masks[chosen]]

    def object_share(self) -> float | None:
        """Share of the labelled pixels that are object; None if nothing is labelled."""
        if self.masks is None:
            return None
        counts = np.zeros(256, np.int64)
        for mask in self.masks:  # one by one: they may not fit into memory
            counts += np.bincount(mask.ravel(), minlength=256)
        known = counts[_LABELS >= 0].sum()
        return float(counts[_LABELS > 0].sum() / known) if known else None

    def take(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> ImageSet:
        """The set of these pictures; still memory-mapped if the indices are consecutive, else a copy."""
        chosen = np.asarray(indices, np.int64)
        whole: slice | NDArray[np.int64] = chosen
        if len(chosen) and np.array_equal(chosen, np.arange(chosen[0], chosen[0] + len(chosen))):
            whole = slice(int(chosen[0]), int(chosen[-1]) + 1)
        return replace(
            self,
            pixels=self.pixels[whole],
            masks=None if self.masks is None else self.masks[whole],
            names=tuple(self.names[i] for i in chosen),
            splits=tuple(self.splits[i] for i in chosen),
            labelled=self.labelled[whole],
        )

    def digest(self) -> str:
        """A hash of pixels and masks in their order: sets with the same one are the same, whatever they are called."""
        digest = hashlib.sha256(repr((self.pixels.shape, self.masks is None)).encode())
        for array in (self.pixels,) if self.masks is None else (self.pixels, self.masks):
            for first in range(0, len(array), _AT_ONCE):
                digest.update(np.ascontiguousarray(array[first : first + _AT_ONCE]).data)
        return digest.hexdigest()

    def subset(self, split: str) -> ImageSet:
        """The pictures of one split. Raises DataError if there is none of that name."""
        chosen = [i for i, s in enumerate(self.splits) if s == split]
        if not chosen:
            there = ", ".join(sorted({s for s in self.splits if s})) or "none"
            raise DataError(f"{self.name} has no split {split!r}; choose one that it has: {there}")
        return self.take(chosen)

    def resized(self, size: int) -> ImageSet:
        """The same pictures at a smaller size [pixels], in memory. Raises DataError for a larger one, or too many."""
        if size == self.size:
            return self
        if size > self.size:
            raise DataError(
                f"{self.name} is prepared at {self.size} px, but at least {size} px are needed; "
                f"prepare it again with --size {size}"
            )
        needed = len(self) * size * size * (3 if self.masks is None else 4)
        if needed > free_memory() // 2:
            raise DataError(
                f"{self.name} at {size} px needs {needed / 1e6:,.0f} MB of memory, more than half of what is free; "
                f"prepare it again with --size {size}, and it is read from disk"
            )
        images = np.empty((len(self), size, size, 3), np.uint8)
        masks = None if self.masks is None else np.empty((len(self), size, size), np.uint8)
        for i in range(len(self)):
            images[i] = np.asarray(fit_square(Image.fromarray(self.pixels[i]), size))
            if masks is not None and self.masks is not None:
                masks[i] = square_mask(self.masks[i], size)
        return replace(self, size=size, pixels=images, masks=masks)


# -------------------------------------------------------------------------------------------------- opening


def is_prepared(folder: str | Path) -> bool:
    """Whether the folder is, or was meant to be, a prepared set."""
    return any(os.path.isfile(Path(folder, name)) for name in ("dataset.json", "images.npy"))


def open_prepared(folder: str | Path) -> ImageSet:
    """A prepared set, memory-mapped. Raises DataError if it is not one, or not whole."""
    folder = at_home(folder)
    try:
        about = json.loads((folder / "dataset.json").read_text("utf-8"))
        if about["format"] != FORMAT:
            raise DataError(
                f"{printable(folder)} has format {about['format']}, but must have {FORMAT}; prepare it again"
            )
        size, count, labelled = int(about["size"]), int(about["pictures"]), int(about["labelled"])
        with open(folder / "items.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        images = _load(folder / "images.npy", (count, size, size, 3))
        masks = _load(folder / "masks.npy", (count, size, size)) if labelled else None
        has_mask = np.array([row["labelled"] == "1" for row in rows], np.bool_)
        listed = (len(rows), int(has_mask.sum()))
        if listed != (count, labelled):
            raise ValueError(
                f"items.csv lists {listed[0]} pictures and {listed[1]} masks, but dataset.json {count} and {labelled}"
            )
        return ImageSet(
            name=str(about["name"]),
            size=size,
            regions=int(about["regions"]),
            pixels=images,
            masks=masks,
            names=tuple(row["name"] for row in rows),
            splits=tuple(row["split"] for row in rows),
            labelled=has_mask,
            bad=tuple((str(path), str(why)) for path, why in about["bad"]),
            notes=tuple(str(note) for note in about["notes"]),
            source=str(about["source"]),
            mask_values=str(about.get("object_values", "auto")),
        )
    except FileNotFoundError as error:
        if not is_prepared(folder):
            seen = "is not a prepared set" if folder.is_dir() else "does not exist"
            raise DataError(
                f"{printable(folder)} {seen}; expected a prepared set; make it with `redoseg prepare`"
            ) from None
        missing = Path(str(error.filename)).name
        raise DataError(
            f"{printable(folder)} has no {missing}, so it is not a whole prepared set; prepare it again"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, EOFError, RecursionError) as error:
        raise DataError(
            f"{printable(folder)} is a damaged prepared set ({describe_error(error)}); prepare it again"
        ) from error


def _load(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    array: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.shape != shape or array.dtype != np.uint8:
        raise ValueError(f"{path.name} has {array.dtype} {array.shape}, but must have uint8 {shape}")
    return array


def contact_sheet(images: ImageSet, count: int = 24, seed: int = 0, columns: int = 6, side: int = 144) -> Image.Image:
    """`count` pictures drawn at random, each beside its mask's outline where it is labelled (RGB)."""
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(len(images), min(count, len(images)), replace=False))
    tiles: list[Image.Image] = []
    for i, label in zip(chosen, images.labels(chosen), strict=True):
        image = Image.fromarray(images.pixels[i]).resize((side, side), Image.Resampling.BICUBIC)
        tiles.append(image)
        if images.masks is not None:
            large = np.asarray(Image.fromarray(label.astype(np.uint8)).resize((side, side), 0))
            tiles.append(outline(image, (large > 0) & (large < 255), large == 255))
    columns = min(columns, len(tiles))
    return grid([tiles[i : i + columns] for i in range(0, len(tiles), columns)])
