"""Pictures to train and to score on: prepared sets, folders, research sets and the built-in pictures."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np

from redoseg.data.benchmarks import READERS, flowers102, is_flowers102
from redoseg.data.folder import list_folder
from redoseg.data.listing import Item, Listing
from redoseg.data.prepared import (
    AT_LEAST,
    OnItem,
    PictureSet,
    Prepared,
    contact_sheet,
    is_prepared,
    open_prepared,
    write_prepared,
)
from redoseg.errors import DataError
from redoseg.pictures import shown

__all__ = [
    "AT_LEAST",
    "READERS",
    "Item",
    "Listing",
    "PictureSet",
    "Prepared",
    "contact_sheet",
    "is_prepared",
    "open_data",
    "open_prepared",
    "open_shapes",
    "prepare",
    "write_prepared",
]

BUILT_IN = ("shapes", "shapes-hard")


def prepare(
    name: str,
    source: str | Path,
    out: str | Path,
    size: int = 128,
    nearest: bool = False,
    on_item: OnItem | None = None,
) -> Prepared:
    """Prepare the set `name` (one of READERS) from the folder `source` into the new folder `out`.

    `nearest` takes nearest pixels, as the published runs did, instead of smoothed ones.

    Raises DataError: an unknown name, another layout than expected, too few pictures, `out` exists.
    """
    if name not in READERS:
        raise DataError(f"set {name!r} is not known, one of these expected: {', '.join(READERS)}")
    listing = READERS[name](source)
    return write_prepared(
        out,
        # A folder is known by its own name.
        Path(source).absolute().name if name == "folder" else name,
        listing.items,
        size,
        source=source,
        bad=listing.bad,
        notes=listing.notes,
        nearest=nearest,
        on_item=on_item,
    )


def open_data(
    spec: str | Path,
    size: int,
    regions: int = 2,
    split: str | None = None,
    seed: int = 0,
    count: int | None = None,
    at_least: int = AT_LEAST,
    on_item: OnItem | None = None,
) -> PictureSet:
    """Open DATA at `size` [pixels]: a prepared set, `shapes`, `shapes-hard`, or any folder of pictures.

    A folder (with `images/` and `masks/`, in the layout of Flowers-102, or simply with pictures in it) is
    prepared into the user's cache on first use, and again when its files change.

    Args:
        spec: what to open; a folder that is called `shapes` is opened as `./shapes`.
        size: side of the pictures.
        regions: of the built-in pictures: 2, or 3 for two objects.
        split: keep only this one; of the built-in pictures "train", or "test" (default), held out.
        seed: which built-in pictures.
        count: how many built-in pictures, 512 if None; of any other set, the first so many.
        at_least: fewer pictures are refused.
        on_item: called with the pictures prepared and their total.

    Raises:
        DataError: nothing there, no such split, too few pictures, a damaged set or one prepared smaller.
    """
    if str(spec) in BUILT_IN:
        return open_shapes(str(spec), size, regions, split or "test", seed, count)
    path = Path(spec).expanduser()
    if not path.is_dir():
        seen = "is a file" if path.exists() else "does not exist"
        raise DataError(
            f"{shown(path)} {seen}, a prepared set, a folder of pictures, {' or '.join(BUILT_IN)} expected: "
            "name one of these"
        )
    whole = open_prepared(path) if is_prepared(path) else _open_folder(path, size, at_least, on_item)
    chosen = whole if split is None else whole.subset(split)
    if count is not None:
        chosen = chosen.take(range(min(count, len(chosen))))
    if len(chosen) < at_least:
        raise DataError(
            f"{len(chosen)} pictures found in {shown(path)}, at least {at_least} expected: "
            "add pictures or name another folder"
        )
    return chosen.resized(size)


def open_shapes(
    level: str, size: int, regions: int = 2, split: str = "test", seed: int = 0, count: int | None = None
) -> PictureSet:
    """Built-in pictures with their masks; `split` "train" or "test" (the held-out part)."""
    from redoseg.data.shapes import HELD_OUT_COUNT, HELD_OUT_START, generate

    if split not in ("train", "test"):
        raise DataError(f"no picture of {level} is in split {split!r}, one of these expected: train, test")
    number = HELD_OUT_COUNT if count is None else count
    start = HELD_OUT_START if split == "test" else 0
    images, labels = generate(level, number, size, regions=regions, seed=seed, start=start)
    return PictureSet(
        name=level,
        size=size,
        regions=regions,
        images=images,
        masks=np.where(labels > 0, 256 - labels.astype(np.int16), 0).astype(np.uint8),
        names=tuple(f"{level}-{seed}-{start + i}" for i in range(number)),
        splits=(split,) * number,
        labelled=np.ones(number, np.bool_),
    )


def _open_folder(folder: Path, size: int, at_least: int, on_item: OnItem | None) -> PictureSet:
    listing = flowers102(folder) if is_flowers102(folder) else list_folder(folder)
    real = folder.resolve()
    files = hashlib.sha256()
    for path in sorted(p for item in listing.items for p in (item.picture, item.mask) if p is not None):
        state = path.stat()
        files.update(os.fsencode(path.relative_to(folder)) + b"\0")
        files.update(f"{state.st_size} {state.st_mtime_ns}\n".encode())
    files.update(repr((listing.bad, listing.notes)).encode("utf-8", "backslashreplace"))
    key = hashlib.sha256(os.fsencode(real)).hexdigest()[:16] + f"-{size}-"
    out = _cache() / (key + files.hexdigest()[:16])
    if out.is_dir():
        try:
            return open_prepared(out)
        except DataError:  # damaged: ours to make again
            shutil.rmtree(out, ignore_errors=True)
    try:
        write_prepared(
            out,
            real.name or "pictures",
            listing.items,
            size,
            source=folder,
            bad=listing.bad,
            notes=listing.notes,
            at_least=at_least,
            on_item=on_item,
        )
    except DataError:
        if not out.is_dir():  # else another run was faster
            raise
    for old in _cache().glob(key + "*"):  # the same folder before its files changed
        if old != out:
            shutil.rmtree(old, ignore_errors=True)
    return open_prepared(out)


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "redoseg" / "prepared"
