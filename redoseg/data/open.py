"""Opening what a user names: a prepared set, a folder, built-in pictures."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from redoseg.data.fetched import local_folder, local_folders
from redoseg.data.listing import Item, Listing
from redoseg.data.mask_values import AUTO, checked_values, settle
from redoseg.data.prepared import AT_LEAST, ImageSet, is_prepared, open_prepared
from redoseg.data.research_sets import READERS, list_set, recognise
from redoseg.data.shapes import HELD_OUT_COUNT, HELD_OUT_START, LEVELS, generate
from redoseg.data.writing import OnItem, Prepared, plan_of, remove_partial, write_prepared
from redoseg.errors import DataError, did_you_mean
from redoseg.files import at_home, cache_dir, printable, why_not_there
from redoseg.images.masks import read_mask
from redoseg.images.read import note_results

BUILT_IN = LEVELS
PAPER_SIZE = 128  # pixels
_READ = 3  # raise it when pictures or masks of folders are read differently: what is in the cache is then made again


def prepare(
    name: str,
    sources: str | Path | Sequence[str | Path],
    out: str | Path,
    size: int = 128,
    *,
    nearest: bool = False,
    splits: str | Path | None = None,
    workers: int = 0,
    on_item: OnItem | None = None,
    mask_values: str = AUTO,
) -> Prepared:
    """Prepare the set `name` from the folder `sources` into the new folder `out`.

    Args:
        name: one of READERS, or several to mix, as in "flowers102+lfw".
        sources: the set's folder in its own layout, or its address in storage; for a mix one folder a part, in the
            same order. Or shards of pictures, .tar or .parquet.
        out: folder to make.
        size: side of the pictures [pixels].
        nearest: take nearest pixels, as the published runs did, instead of smoothed ones.
        splits: file or folder with lists of names, in place of the set's own splits.
        workers: threads that decode; 0 for one a core.
        on_item: called with the items done and their total.
        mask_values: which values of masks are the object: "auto", "nonzero", or numbers as in "1,2".

    Stopped at any moment, the same call continues. Raises DataError: an unknown name, another layout than
    expected, too few pictures, `out` exists and is another set, it cannot be written.
    """
    folders = local_folders([sources] if isinstance(sources, str | Path) else sources)
    display, root, listing = list_set(name, [at_home(f) for f in folders], None if splits is None else at_home(splits))
    listing = _with_values(listing, mask_values)
    made = write_prepared(
        at_home(out), display, listing, size=size, source=root, nearest=nearest, workers=workers, on_item=on_item
    )
    return replace(made, notes=(*made.notes, *note_results(listing.results)))


def open_data(
    spec: str | Path,
    size: int,
    *,
    regions: int = 2,
    split: str | None = None,
    seed: int = 0,
    count: int | None = None,
    at_least: int = AT_LEAST,
    on_item: OnItem | None = None,
    mask_values: str = AUTO,
) -> ImageSet:
    """Open DATA at `size` [pixels]: a prepared set, a name in `BUILT_IN`, or any folder of pictures.

    A folder (with `images/` and `masks/`, in the layout of a research set, or simply with pictures in it) is
    prepared into the user's cache on first use, and again when its files change.

    Args:
        spec: what to open, or its address in storage; a folder that is called `shapes` is opened as `./shapes`.
        size: side of the pictures.
        regions: of the built-in pictures: 2, or 3 for two objects.
        split: keep only this one; of the built-in pictures "train", or "test" (default), held out.
        seed: which built-in pictures.
        count: how many built-in pictures, 512 if None; of any other set, the first so many.
        at_least: fewer pictures are refused.
        on_item: called with the pictures prepared and their total.
        mask_values: which values of a folder's masks are the object: "auto", "nonzero", or numbers as in "1,2".

    Raises:
        DataError: nothing there, no such split, too few pictures, a damaged set or one prepared smaller, or prepared
            with other `mask_values`.
    """
    if str(spec) in BUILT_IN:
        return open_shapes(str(spec), size, regions=regions, split=split or "test", seed=seed, count=count)
    path = at_home(local_folder(spec))
    if not os.path.isdir(path):
        seen = why_not_there(path)
        built_in = f"{', '.join(BUILT_IN[:-1])} or {BUILT_IN[-1]}"
        raise DataError(
            f"{printable(path)} {seen}; {did_you_mean(str(spec), BUILT_IN)}expected a prepared set, a folder of "
            f"pictures, {built_in}; name one of these"
        )
    if is_prepared(path):
        whole = open_prepared(path)
        _refuse_other_values(path, whole, mask_values)
    else:
        whole = _open_folder(path, size, at_least, on_item, mask_values)
    chosen = whole if split is None else whole.subset(split)
    if count is not None:
        chosen = chosen.take(range(min(count, len(chosen))))
    if len(chosen) < at_least:
        raise DataError(
            f"pictures found in {printable(path)}: {len(chosen)}, but at least {at_least} are needed; "
            "add pictures or choose another folder"
        )
    return chosen.resized(size)


def labelled_images(
    data: str,
    size: int | None = None,
    *,
    split: str | None = None,
    seed: int = 0,
    regions: int = 2,
    built_in: int = PAPER_SIZE,
    mask_values: str = AUTO,
) -> ImageSet:
    """The pictures of `data` that have a mask, at `size` [pixels].

    If it is None, at the size of a prepared set, at `built_in` for built-in pictures (of so many `regions`), else at
    128. `mask_values` is as for `open_data`. Raises DataError (nothing there, no masks, none that can be used).
    """
    data = str(local_folder(data))
    if size is None and is_prepared(data):
        size = open_prepared(data).size
    if size is None:
        size = built_in if data in BUILT_IN else PAPER_SIZE
    images = open_data(data, size, regions=regions, split=split, seed=seed, at_least=1, mask_values=mask_values)
    labelled = images.take(np.flatnonzero(images.labelled))
    if not len(labelled):
        raise DataError(_why_no_masks(data, images))
    return labelled


def _why_no_masks(data: str, images: ImageSet) -> str:
    """Why no picture has a mask: what was found wrong with those that are there, or how to add some."""
    why = [note for note in images.notes if "no mask is used" in note]
    if not why and images.bad:
        path, reason = images.bad[0]
        more = f", and {len(images.bad) - 1:,} more files" if len(images.bad) > 1 else ""
        why = [f"{path}: {reason}{more}"]
    if why:
        return f"{data} has no mask that can be used: {why[0]}"
    about = [note for note in images.notes if "masks" in note]
    seen = f" ({about[0]})" if about else ""
    return f"{data} has no masks{seen}; expected pictures with masks; add a folder masks/ beside images/"


class Originals(NamedTuple):
    """The labelled pictures of a set as files."""

    items: list[Item]
    bad: tuple[tuple[str, str], ...]
    """Files that cannot be used, each with its reason."""
    notes: tuple[str, ...]


def originals(spec: str | Path, split: str | None = None, mask_values: str = AUTO) -> Originals:
    """The labelled pictures of DATA as files, at the size that they have.

    `spec` is a prepared set, whose source must still be there, or a folder that one could be made from; `split` keeps
    only those of one split; `mask_values` is as for `open_data`. Raises DataError: nothing there, no such split, no
    masks, none that can be used.
    """
    path = at_home(local_folder(spec))
    prepared = open_prepared(path) if is_prepared(path) else None
    source = Path(prepared.source) if prepared else path
    if not os.path.isdir(source):
        if prepared:
            raise DataError(
                f"{printable(path)} was prepared from {printable(source)}, which no longer exists; "
                "choose the folder of the original pictures"
            )
        raise DataError(f"{printable(source)} is not a folder; choose the folder of the original pictures")
    listing = READERS[recognise(source)](source)
    if prepared:
        _refuse_other_values(path, prepared, mask_values)
        mask_values = prepared.mask_values
    items, about_masks = settle(listing.items, checked_values(mask_values))
    if about_masks and not any(item.mask for item in items):
        raise DataError(f"{printable(path)} has no mask that can be used: {about_masks[0]}")
    splits = dict(zip(prepared.names, prepared.splits, strict=True)) if prepared else {i.name: i.split for i in items}
    found = [i for i in items if i.mask is not None and i.name in splits and split in (None, splits[i.name])]
    if not found:
        which = f" in split {split!r}" if split else ""
        there = ", ".join(sorted({s for s in splits.values() if s})) or "none"
        raise DataError(
            f"{printable(path)} has no picture with a mask{which} (splits: {there}); put masks into masks/ "
            "beside images/, or choose another folder or split"
        )
    return Originals(found, listing.bad, (*about_masks, *note_results(listing.results)))


def open_shapes(
    level: str, size: int, *, regions: int = 2, split: str = "test", seed: int = 0, count: int | None = None
) -> ImageSet:
    """Built-in pictures with their masks; `split` "train" or "test" (the held-out part)."""
    if split not in ("train", "test"):
        raise DataError(f"{level} has no split {split!r}; choose train or test")
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


def _with_values(listing: Listing, said: str) -> Listing:
    """The listing with what the user said of its masks. Raises DataError where no mask is read that way."""
    listing = replace(listing, mask_values=checked_values(said))
    masked = [item for item in listing.items if item.mask is not None]
    if said != AUTO and masked and not any(item.read_mask is read_mask for item in masked):
        raise DataError("--mask-values cannot be combined with a research set, whose masks have a form of their own")
    return listing


def _refuse_other_values(path: Path, prepared: ImageSet, said: str) -> None:
    if checked_values(said) not in (AUTO, prepared.mask_values):
        raise DataError(
            f"{printable(path)} was prepared with --mask-values {prepared.mask_values}; prepare it again with "
            f"--mask-values {said}"
        )


def _open_folder(folder: Path, size: int, at_least: int, on_item: OnItem | None, mask_values: str = AUTO) -> ImageSet:
    listing = _with_values(READERS[recognise(folder)](folder), mask_values)
    about_results = note_results(listing.results)
    real = folder.resolve()  # the same however it is named
    name = real.name or "pictures"
    key = hashlib.sha256(os.fsencode(real)).hexdigest()[:16] + f"-{size}-"
    plan = plan_of(name, listing, size, folder)
    out = _cache() / (key + hashlib.sha256(f"{plan} {_READ}".encode()).hexdigest()[:16])
    if os.path.isdir(out):
        try:
            there = open_prepared(out)
            return replace(there, notes=(*there.notes, *about_results))
        except DataError:  # damaged: ours to make again
            shutil.rmtree(out, ignore_errors=True)
    write_prepared(out, name, listing, size=size, source=folder, at_least=at_least, wait=True, on_item=on_item)
    for old in _cache().glob(f"{key}*"):  # the same folder before its files changed
        if old != out:
            shutil.rmtree(old, ignore_errors=True)
    for old in _cache().glob(f".{key}*.partial"):
        remove_partial(old)
    made = open_prepared(out)
    return replace(made, notes=(*made.notes, *about_results))


def _cache() -> Path:
    return cache_dir() / "prepared"
