"""A prepared set: pictures decoded once into arrays on disk that are memory-mapped.

A folder with `images.npy` (N, H, W, 3), `masks.npy` (N, H, W; left out if nothing is labelled), `items.csv`
(name, source, split, labelled) and `dataset.json`, which says from what and how it was made. The folder is
written under another name and renamed when it is whole.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from redoseg.data.listing import Item
from redoseg.errors import DataError
from redoseg.pictures import (
    BACKGROUND,
    OBJECT,
    UNLABELLED,
    fit_square,
    grid,
    outline,
    read_picture,
    reason,
    shown,
)

FORMAT = 1
AT_LEAST = 8  # pictures: fewer teach nothing
SPLITS = ("train", "val", "dev", "test", "")  # the order in which they are stored

# Label of a mask's byte: 0 background, 255 object 1, 254 object 2, ...; all else is not labelled.
_LABELS = np.full(256, -1, np.int8)
_LABELS[BACKGROUND] = 0
for _object in range(1, 65):
    _LABELS[256 - _object] = _object


@dataclass(frozen=True)
class PictureSet:
    """Square pictures of one size, with their masks where there are any."""

    name: str
    size: int
    """Side of each picture [pixels]."""
    regions: int
    """Regions in the masks, background included."""
    images: NDArray[np.uint8]
    """(N, H, W, 3), RGB; may be memory-mapped."""
    masks: NDArray[np.uint8] | None
    """(N, H, W): 0 background, 255 object, 254 second object, 127 not labelled; None if there are none."""
    names: tuple[str, ...]
    splits: tuple[str, ...]
    """"train", "val", "dev", "test" or "", one a picture."""
    labelled: NDArray[np.bool_]
    """(N,): whether the picture has a mask."""
    bad: tuple[tuple[str, str], ...] = ()
    """Files that were left out, each with its reason."""
    notes: tuple[str, ...] = ()
    """What is missing or was decided when the set was prepared."""

    def __len__(self) -> int:
        return len(self.names)

    def labels(self, indices: Sequence[int] | NDArray[np.integer[Any]] | None = None) -> NDArray[np.int8]:
        """Labels (n, H, W), of all if None: 0 background, 1 object, 2 second object, -1 not labelled."""
        chosen = np.arange(len(self)) if indices is None else np.asarray(indices, np.int64)
        if self.masks is None:
            return np.full((len(chosen), self.size, self.size), -1, np.int8)
        return _LABELS[self.masks[chosen]]

    def take(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> PictureSet:
        """The set of these pictures; still memory-mapped if the indices are consecutive, else a copy."""
        chosen = np.asarray(indices, np.int64)
        whole: slice | NDArray[np.int64] = chosen
        if len(chosen) and np.array_equal(chosen, np.arange(chosen[0], chosen[0] + len(chosen))):
            whole = slice(int(chosen[0]), int(chosen[-1]) + 1)
        return replace(
            self,
            images=self.images[whole],
            masks=None if self.masks is None else self.masks[whole],
            names=tuple(self.names[i] for i in chosen),
            splits=tuple(self.splits[i] for i in chosen),
            labelled=self.labelled[whole],
        )

    def subset(self, split: str) -> PictureSet:
        """The pictures of one split. Raises DataError if there is none of that name."""
        chosen = [i for i, s in enumerate(self.splits) if s == split]
        if not chosen:
            there = ", ".join(sorted({s for s in self.splits if s})) or "none"
            raise DataError(f"no picture of {self.name} is in split {split!r}, one of these expected: {there}")
        return self.take(chosen)

    def resized(self, size: int) -> PictureSet:
        """The same pictures at a smaller size [pixels], in memory. Raises DataError for a larger one."""
        if size == self.size:
            return self
        if size > self.size:
            raise DataError(
                f"{self.name} is prepared at {self.size} px, at least {size} px expected: "
                f"prepare it again with --size {size}"
            )
        images = np.empty((len(self), size, size, 3), np.uint8)
        masks = None if self.masks is None else np.empty((len(self), size, size), np.uint8)
        for i in range(len(self)):
            images[i] = np.asarray(fit_square(Image.fromarray(self.images[i]), size))
            if masks is not None and self.masks is not None:
                masks[i] = _square_mask(self.masks[i], size)
        return replace(self, size=size, images=images, masks=masks)


# -------------------------------------------------------------------------------------------------- writing


@dataclass(frozen=True)
class Prepared:
    """What came of preparing a set."""

    out: Path
    pictures: int
    labelled: int
    bad: tuple[tuple[str, str], ...] = field(default=())
    notes: tuple[str, ...] = ()


OnItem = Callable[[int, int], None]
"""Called with the pictures done and their total."""


def write_prepared(
    out: str | Path,
    name: str,
    items: Sequence[Item],
    size: int,
    *,
    source: str | Path,
    bad: Sequence[tuple[str, str]] = (),
    notes: Sequence[str] = (),
    at_least: int = AT_LEAST,
    nearest: bool = False,
    on_item: OnItem | None = None,
) -> Prepared:
    """Decode `items` one by one into a prepared set of side `size` [pixels] in the new folder `out`.

    `nearest` takes nearest pixels of the whole picture, as the published runs did, instead of smoothed ones.

    A picture that cannot be read is listed with its reason and the rest goes on; one whose mask cannot be
    used is kept as not labelled. Raises DataError if `out` exists, fewer than `at_least` pictures are good or
    the disk is full; nothing is left behind then.
    """
    out = Path(out)
    if os.path.lexists(out):
        raise DataError(f"{shown(out)} exists, a new folder expected: remove it or name another")
    if not 4 <= size <= 2048:
        raise DataError(f"size {size} px, 4 to 2048 expected: choose another size")
    if len(items) < at_least:
        raise DataError(
            f"{len(items)} pictures found in {shown(source)}, at least {at_least} expected: "
            "add pictures or name another folder"
        )
    # Splits lie together, so that one split is a slice of the mapped file.
    ordered = sorted(items, key=lambda item: SPLITS.index(item.split))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _sweep(out)
        partial = out.with_name(f".{out.name}.partial-{secrets.token_hex(4)}")
        partial.mkdir()
        try:
            done = _fill(partial, out, name, ordered, size, Path(source), bad, notes, at_least, nearest, on_item)
            os.rename(partial, out)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"{shown(out)}: cannot be written ({reason(error)}): free space or name another place"
        ) from error
    return done


def _sweep(out: Path) -> None:
    """Remove what runs that were killed a day or more ago left beside `out`."""
    for old in out.parent.glob(f".{out.name}.partial-*"):
        with contextlib.suppress(OSError):
            if time.time() - old.stat().st_mtime > 86400:
                shutil.rmtree(old, ignore_errors=True)


def _fill(
    partial: Path,
    out: Path,
    name: str,
    items: Sequence[Item],
    size: int,
    source: Path,
    bad: Sequence[tuple[str, str]],
    notes: Sequence[str],
    at_least: int,
    nearest: bool,
    on_item: OnItem | None,
) -> Prepared:
    rows: list[tuple[str, str, str, int]] = []
    problems = list(bad)
    with_masks = any(item.mask is not None for item in items)
    with contextlib.ExitStack() as stack:
        images = stack.enter_context(_array(partial / "images.npy", (size, size, 3)))
        masks = stack.enter_context(_array(partial / "masks.npy", (size, size))) if with_masks else None
        for i, item in enumerate(items):
            picture, mask, why = prepare_item(item, size, nearest)
            problems += [(_relative(path, source), text) for path, text in why]
            if picture is not None:
                images.write(picture.tobytes())
                if masks is not None:
                    blank = np.full((size, size), UNLABELLED, np.uint8)
                    masks.write((blank if mask is None else mask).tobytes())
                where = _relative(item.picture, source)
                rows.append((shown(item.name), where, item.split, int(mask is not None)))
            if on_item is not None:
                on_item(i + 1, len(items))
    if len(rows) < at_least:
        raise DataError(
            f"{len(rows)} of {len(items)} pictures in {shown(source)} can be read, "
            f"at least {at_least} expected: replace the broken ones, "
            f"first of all {problems[0][0]} ({problems[0][1]})"
        )
    labelled = sum(row[3] for row in rows)
    if with_masks and not labelled:
        (partial / "masks.npy").unlink()
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("name", "source", "split", "labelled"))
    writer.writerows(rows)
    _write(partial / "items.csv", table.getvalue())
    about = {
        "format": FORMAT,
        "name": name,
        "size": size,
        "regions": 2,
        "pictures": len(rows),
        "labelled": labelled,
        "splits": dict(Counter(row[2] for row in rows if row[2])),
        "source": shown(source.absolute()),
        "made": "shorter side to the size, centre crop; "
        f"pictures {'nearest' if nearest else 'bilinear (antialiased)'}, masks nearest",
        "mask_values": {"background": BACKGROUND, "object": OBJECT, "not labelled": UNLABELLED},
        "notes": list(notes),
        "bad": [list(pair) for pair in problems],
    }
    # Last: a folder without it is not a set.
    _write(partial / "dataset.json", json.dumps(about, indent=1, ensure_ascii=False) + "\n")
    return Prepared(out, len(rows), labelled, tuple(problems), tuple(notes))


Problem = tuple[Path, str]


def prepare_item(
    item: Item, size: int, nearest: bool = False
) -> tuple[NDArray[np.uint8] | None, NDArray[np.uint8] | None, list[Problem]]:
    """Picture (H, W, 3) or None, mask (H, W) or None, and which files could not be used and why."""
    try:
        image = read_picture(item.picture, None if nearest else size)
        resample = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
        picture = np.asarray(fit_square(image, size, resample))
    except DataError as error:
        return None, None, [(item.picture, _why(error, item.picture))]
    if item.mask is None:
        return picture, None, []
    kept = "; its picture is kept as not labelled"
    try:
        mask = item.read_mask(item.mask)
    except DataError as error:
        return picture, None, [(item.mask, _why(error, item.mask) + kept)]
    (height, width), (w, h) = mask.shape, image.size
    # A JPEG that was decoded reduced is up to a pixel off.
    if abs(np.log(width * h / (height * w))) > max(0.03, 1.5 / min(w, h)):
        why = f"mask of {width}x{height} beside a picture of other proportions{kept}"
        return picture, None, [(item.mask, why)]
    return picture, _square_mask(mask, size), []


def _square_mask(mask: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    return np.asarray(fit_square(Image.fromarray(mask), size, Image.Resampling.NEAREST))


def _why(error: DataError, path: Path) -> str:
    return str(error).removeprefix(f"{shown(path)}: ")


def _relative(path: Path, source: Path) -> str:
    return shown(path.relative_to(source).as_posix() if path.is_relative_to(source) else path)


@contextlib.contextmanager
def _array(path: Path, shape: tuple[int, ...]) -> Iterator[IO[bytes]]:
    """A .npy file to write items of `shape` to, one by one; how many is put in its header at the end."""
    with open(path, "xb") as file:
        header = _header(0, shape)
        file.write(header)
        yield file
        count = (file.tell() - len(header)) // int(np.prod(shape))
        file.seek(0)
        file.write(_header(count, shape))
        file.flush()
        os.fsync(file.fileno())


def _header(count: int, shape: tuple[int, ...]) -> bytes:
    """Version 1.0 .npy header of 128 bytes, whatever the count."""
    text = repr({"descr": "|u1", "fortran_order": False, "shape": (count, *shape)})
    return b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + text.ljust(117).encode() + b"\n"


def _write(path: Path, text: str) -> None:
    with open(path, "x", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


# -------------------------------------------------------------------------------------------------- opening


def is_prepared(folder: str | Path) -> bool:
    """Whether the folder is, or was meant to be, a prepared set."""
    return any(Path(folder, name).is_file() for name in ("dataset.json", "images.npy"))


def open_prepared(folder: str | Path) -> PictureSet:
    """A prepared set, memory-mapped. Raises DataError if it is not one, or not whole."""
    folder = Path(folder)
    try:
        about = json.loads((folder / "dataset.json").read_text("utf-8"))
        if about["format"] != FORMAT:
            raise DataError(f"{shown(folder)} has format {about['format']}, {FORMAT} expected: prepare it again")
        size, count, labelled = int(about["size"]), int(about["pictures"]), int(about["labelled"])
        with open(folder / "items.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        images = _load(folder / "images.npy", (count, size, size, 3))
        masks = _load(folder / "masks.npy", (count, size, size)) if labelled else None
        has_mask = np.array([row["labelled"] == "1" for row in rows], np.bool_)
        if len(rows) != count or has_mask.sum() != labelled:
            raise ValueError(f"items.csv lists {len(rows)} pictures, dataset.json {count}")
        return PictureSet(
            name=str(about["name"]),
            size=size,
            regions=int(about["regions"]),
            images=images,
            masks=masks,
            names=tuple(row["name"] for row in rows),
            splits=tuple(row["split"] for row in rows),
            labelled=has_mask,
            bad=tuple((str(path), str(why)) for path, why in about["bad"]),
            notes=tuple(str(note) for note in about["notes"]),
        )
    except FileNotFoundError as error:
        missing = Path(str(error.filename)).name
        raise DataError(f"{shown(folder)} has no {missing}, a whole prepared set expected: prepare it again") from None
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise DataError(
            f"{shown(folder)} is damaged ({reason(error)}), a whole prepared set expected: prepare it again"
        ) from error


def _load(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    array: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.shape != shape or array.dtype != np.uint8:
        raise ValueError(f"{path.name} holds {array.dtype} {array.shape}, uint8 {shape} expected")
    return array


def contact_sheet(
    pictures: PictureSet, count: int = 24, seed: int = 0, columns: int = 6, side: int = 144
) -> Image.Image:
    """`count` pictures drawn at random, each beside its mask's outline where it is labelled (RGB)."""
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(len(pictures), min(count, len(pictures)), replace=False))
    tiles: list[Image.Image] = []
    for i, label in zip(chosen, pictures.labels(chosen), strict=True):
        picture = Image.fromarray(pictures.images[i]).resize((side, side), Image.Resampling.BICUBIC)
        tiles.append(picture)
        if pictures.masks is not None:
            large = np.asarray(Image.fromarray(label.astype(np.uint8)).resize((side, side), 0))
            tiles.append(outline(picture, (large > 0) & (large < 255), large == 255))
    columns = min(columns, len(tiles))
    return grid([tiles[i : i + columns] for i in range(0, len(tiles), columns)])
