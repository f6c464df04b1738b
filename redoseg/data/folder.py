"""Any folder of pictures; or `images/` beside `masks/`, matched by the name without its suffix."""

from __future__ import annotations

import contextlib
import os
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

from redoseg.data.listing import Item, Listing
from redoseg.data.splits import apply_splits, read_splits
from redoseg.errors import DataError
from redoseg.files import printable
from redoseg.images.read import IMAGE_SUFFIXES, list_images

SPLIT_FILES = ("splits.csv", "splits.txt")


def list_folder(source: str | Path) -> Listing:
    """The pictures of a folder, sorted, with their masks where `images/` and `masks/` lie in it.

    `masks/` may be missing or have only some. A stem that two pictures or two masks share says not which mask
    is whose: those are kept without a mask and listed. Splits are those of `splits.csv` or `splits.txt` in the
    folder. Raises DataError for a missing or empty folder, and for a wrong file of splits.
    """
    source = Path(source)
    listing = _without_splits(source)
    files = [source / name for name in SPLIT_FILES if os.path.isfile(source / name)]
    if len(files) > 1:
        raise DataError(f"{printable(source)} has {' and '.join(SPLIT_FILES)}; expected one of them; remove the other")
    return apply_splits(listing, read_splits(files[0]), printable(files[0])) if files else listing


def labelled_folder(source: str | Path) -> Listing:
    """`images/` and `masks/` with every third picture, from the first, in split "dev", the rest in "test".

    A file of splits in the folder counts before that. Raises DataError if there is no `images/`, and as `list_folder`.
    """
    if not os.path.isdir(_within(Path(source), "images")):
        raise DataError(
            f"{printable(source)} has no images; expected images/ and masks/; name the folder that contains them"
        )
    listing = list_folder(source)
    if any(item.split for item in listing.items):
        return listing
    items = tuple(replace(item, split="test" if i % 3 else "dev") for i, item in enumerate(listing.items))
    return replace(listing, items=items)


def shown_problems(problems: list[tuple[Path, str]], folder: Path) -> tuple[tuple[str, str], ...]:
    """What `list_images` could not look at, with each path relative to `folder`."""
    return tuple((_shown(path, folder), why) for path, why in problems)


def _without_splits(source: Path) -> Listing:
    images, masks_folder = _within(source, "images"), _within(source, "masks")
    if not os.path.isdir(images):
        pictures, problems, results = list_images(source)
        return Listing(tuple(_items(pictures, source)), shown_problems(problems, source), results=results)
    pictures, problems, results = list_images(images)
    items = _items(pictures, images)
    bad = list(shown_problems(problems, source))
    if not os.path.isdir(masks_folder):
        beside = 0
        with contextlib.suppress(OSError):
            beside = sum(p.suffix.lower() in IMAGE_SUFFIXES and p.name[0] != "." for p in source.iterdir())
        notes = (f"pictures beside images/, not used: {beside:,}",) if beside else ()
        return Listing(tuple(items), tuple(bad), notes, results)
    try:
        files, problems, _ = list_images(masks_folder, with_results=True)
    except DataError:  # nothing is labelled
        with contextlib.suppress(OSError):
            if not os.listdir(masks_folder):
                return Listing(tuple(items), tuple(bad), ("masks/ is empty",), results)
        why = "has no mask that can be read; expected files ending in .png, .jpg, ...; repair or remove it"
        return Listing(tuple(items), (*bad, (printable(masks_folder.name), why)), results=results)
    bad += shown_problems(problems, source)
    masks = _by_stem(files, masks_folder)
    owners = _by_stem(pictures, images)
    found: list[Item] = []
    for item in items:
        stem = _stem(item.image, images)
        candidates = masks.get(stem, [])
        if candidates and len(owners[stem]) > 1:
            names = ", ".join(printable(p.name) for p in owners[stem])
            bad.append((_shown(item.image, source), f"shares the mask {printable(candidates[0].name)} with {names}"))
        elif len(candidates) > 1:
            names = ", ".join(printable(p.name) for p in candidates)
            bad.append((_shown(item.image, source), f"has more than one mask: {names}"))
        elif candidates:
            item = replace(item, mask=candidates[0])
        found.append(item)
    said = []
    without = sum(item.mask is None for item in found)
    if without:
        said.append(f"{without} of {len(found)} pictures have no mask")
    orphans = len(masks.keys() - owners.keys())
    if orphans:
        said.append(f"{orphans} masks have no picture")
    return Listing(tuple(found), tuple(bad), tuple(said), results)


def _within(source: Path, name: str) -> Path:
    """The sub-folder of that name, also in capitals."""
    if not os.path.isdir(source / name):
        with contextlib.suppress(OSError):
            return next((p for p in source.iterdir() if p.name.lower() == name and p.is_dir()), source / name)
    return source / name


def _stem(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _shown(path: Path, folder: Path) -> str:
    return printable(path.relative_to(folder).as_posix())


def _by_stem(paths: list[Path], folder: Path) -> dict[str, list[Path]]:
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        groups[_stem(path, folder)].append(path)
    return groups


def _items(paths: list[Path], folder: Path) -> list[Item]:
    """One a picture, named by its stem, or by its whole name if that stem is another's stem or name."""
    whole = [p.relative_to(folder).as_posix() for p in paths]
    taken = Counter([*(_stem(p, folder) for p in paths), *whole])
    return [Item(stem if taken[stem := _stem(p, folder)] == 1 else w, p) for p, w in zip(paths, whole, strict=True)]
