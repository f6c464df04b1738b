"""Opening what a user names: a prepared set, a folder, built-in pictures."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from redoseg.data.listing import Item
from redoseg.data.prepared import AT_LEAST, ImageSet, is_prepared, open_prepared
from redoseg.data.research_sets import READERS, list_set, recognise
from redoseg.data.shapes import HELD_OUT_COUNT, HELD_OUT_START, LEVELS, generate
from redoseg.data.writing import OnItem, Prepared, plan_of, remove_partial, write_prepared
from redoseg.errors import DataError
from redoseg.files import cache_dir, printable

BUILT_IN = LEVELS
PAPER_SIZE = 128  # pixels


def prepare(
    name: str,
    sources: str | Path | Sequence[str | Path],
    out: str | Path,
    size: int = 128,
    nearest: bool = False,
    splits: str | Path | None = None,
    workers: int = 0,
    on_item: OnItem | None = None,
) -> Prepared:
    """Prepare the set `name` from the folder `sources` into the new folder `out`.

    Args:
        name: one of READERS, or several to mix, as in "flowers102+lfw".
        sources: the set's folder in its own layout; for a mix one folder a part, in the same order.
        out: folder to make.
        size: side of the pictures [pixels].
        nearest: take nearest pixels, as the published runs did, instead of smoothed ones.
        splits: file or folder with lists of names, in place of the set's own splits.
        workers: processes that decode; 0 for one a core.
        on_item: called with the items done and their total.

    Stopped at any moment, the same call continues. Raises DataError: an unknown name, another layout than
    expected, too few pictures, `out` exists and is another set, it cannot be written.
    """
    folders = [sources] if isinstance(sources, str | Path) else sources
    display, root, listing = list_set(name, [Path(f) for f in folders], None if splits is None else Path(splits))
    return write_prepared(out, display, listing, size, source=root, nearest=nearest, workers=workers, on_item=on_item)


def open_data(
    spec: str | Path,
    size: int,
    regions: int = 2,
    split: str | None = None,
    seed: int = 0,
    count: int | None = None,
    at_least: int = AT_LEAST,
    on_item: OnItem | None = None,
) -> ImageSet:
    """Open DATA at `size` [pixels]: a prepared set, a name in `BUILT_IN`, or any folder of pictures.

    A folder (with `images/` and `masks/`, in the layout of a research set, or simply with pictures in it) is
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
    if not os.path.isdir(path):
        seen = "is a file" if os.path.exists(path) else "does not exist"
        built_in = f"{', '.join(BUILT_IN[:-1])} or {BUILT_IN[-1]}"
        raise DataError(
            f"{printable(path)} {seen}; expected a prepared set, a folder of pictures, {built_in}; name one of these"
        )
    whole = open_prepared(path) if is_prepared(path) else _open_folder(path, size, at_least, on_item)
    chosen = whole if split is None else whole.subset(split)
    if count is not None:
        chosen = chosen.take(range(min(count, len(chosen))))
    if len(chosen) < at_least:
        raise DataError(
            f"{len(chosen)} pictures found in {printable(path)}; expected at least {at_least}; "
            "add pictures or choose another folder"
        )
    return chosen.resized(size)


def labelled_images(
    data: str,
    size: int | None = None,
    split: str | None = None,
    seed: int = 0,
    regions: int = 2,
    built_in: int = PAPER_SIZE,
) -> ImageSet:
    """The pictures of `data` that have a mask, at `size` [pixels].

    If it is None, at the size of a prepared set, at `built_in` for built-in pictures (of so many `regions`), else at
    128. Raises DataError (nothing there, no masks).
    """
    if size is None and is_prepared(data):
        size = open_prepared(data).size
    if size is None:
        size = built_in if data in BUILT_IN else PAPER_SIZE
    images = open_data(data, size, regions, split, seed, at_least=1)
    images = images.take(np.flatnonzero(images.labelled))
    if not len(images):
        raise DataError(f"{data} has no masks; expected pictures with masks; add a folder masks/ beside images/")
    return images


def originals(spec: str | Path, split: str | None = None) -> list[Item]:
    """The labelled pictures of DATA as files, at the size that they have.

    `spec` is a prepared set, whose source must still be there, or a folder that one could be made from; `split` keeps
    only those of one split. Raises DataError: nothing there, no such split, no masks.
    """
    path = Path(spec).expanduser()
    prepared = open_prepared(path) if is_prepared(path) else None
    source = Path(prepared.source) if prepared else path
    if not os.path.isdir(source):
        if prepared:
            raise DataError(
                f"{printable(path)} was prepared from {printable(source)}, which is gone; "
                "choose the folder of the pictures at their own size"
            )
        raise DataError(f"{printable(source)} is not a folder; choose the folder of the pictures at their own size")
    items = READERS[recognise(source)](source).items
    splits = dict(zip(prepared.names, prepared.splits, strict=True)) if prepared else {i.name: i.split for i in items}
    found = [i for i in items if i.mask is not None and i.name in splits and split in (None, splits[i.name])]
    if not found:
        which = f" in split {split!r}" if split else ""
        there = ", ".join(sorted({s for s in splits.values() if s})) or "none"
        raise DataError(
            f"{printable(path)} has no labelled picture{which} (splits: {there}); expected masks/ beside images/; "
            "choose another folder or split"
        )
    return found


def open_shapes(
    level: str, size: int, regions: int = 2, split: str = "test", seed: int = 0, count: int | None = None
) -> ImageSet:
    """Built-in pictures with their masks; `split` "train" or "test" (the held-out part)."""
    if split not in ("train", "test"):
        raise DataError(f"no picture of {level} is in split {split!r}; expected train or test")
    number = HELD_OUT_COUNT if count is None else count
    start = HELD_OUT_START if split == "test" else 0
    images, labels = generate(level, number, size, regions=regions, seed=seed, start=start)
    return ImageSet(
        name=level,
        size=size,
        regions=regions,
        pixels=images,
        masks=np.where(labels > 0, 256 - labels.astype(np.int16), 0).astype(np.uint8),
        names=tuple(f"{level}-{seed}-{start + i}" for i in range(number)),
        splits=(split,) * number,
        labelled=np.ones(number, np.bool_),
    )


def _open_folder(folder: Path, size: int, at_least: int, on_item: OnItem | None) -> ImageSet:
    listing = READERS[recognise(folder)](folder)
    real = folder.resolve()  # the same however it is named
    name = real.name or "pictures"
    key = hashlib.sha256(os.fsencode(real)).hexdigest()[:16] + f"-{size}-"
    out = _cache() / (key + plan_of(name, listing, size, folder)[:16])
    if out.is_dir():
        try:
            return open_prepared(out)
        except DataError:  # damaged: ours to make again
            shutil.rmtree(out, ignore_errors=True)
    write_prepared(out, name, listing, size, source=folder, at_least=at_least, wait=True, on_item=on_item)
    for old in _cache().glob(f"{key}*"):  # the same folder before its files changed
        if old != out:
            shutil.rmtree(old, ignore_errors=True)
    for old in _cache().glob(f".{key}*.partial"):
        remove_partial(old)
    return open_prepared(out)


def _cache() -> Path:
    return cache_dir() / "prepared"
