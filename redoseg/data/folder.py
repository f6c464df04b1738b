"""Any folder of pictures; or `images/` beside `masks/`, matched by the name without its suffix."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from redoseg.data.listing import Item, Listing
from redoseg.errors import DataError
from redoseg.pictures import list_pictures, shown


def list_folder(source: str | Path) -> Listing:
    """The pictures of a folder, sorted, with their masks where `images/` and `masks/` lie in it.

    `masks/` may be missing or hold only some. A stem that two pictures or two masks share says not which mask
    is whose: those are kept without a mask and listed. Raises DataError for a missing or empty folder.
    """
    source = Path(source)
    if not (source / "images").is_dir():
        pictures, problems = list_pictures(source)
        return Listing(tuple(_items(pictures, source)), _shown_problems(problems, source))
    pictures, problems = list_pictures(source / "images")
    items = _items(pictures, source / "images")
    bad = list(_shown_problems(problems, source))
    if not (source / "masks").is_dir():
        return Listing(tuple(items), tuple(bad))
    try:
        files, problems = list_pictures(source / "masks")
    except DataError:  # an empty folder of masks: nothing is labelled
        return Listing(tuple(items), tuple(bad), ("masks/ is empty",))
    bad += _shown_problems(problems, source)
    masks = _by_stem(files, source / "masks")
    owners = _by_stem(pictures, source / "images")
    found: list[Item] = []
    for item in items:
        stem = _stem(item.picture, source / "images")
        candidates = masks.get(stem, [])
        if candidates and len(owners[stem]) > 1:
            names = ", ".join(shown(p.name) for p in owners[stem])
            bad.append((_shown(item.picture, source), f"shares the mask {candidates[0].name} with {names}"))
        elif len(candidates) > 1:
            names = ", ".join(shown(p.name) for p in candidates)
            bad.append((_shown(item.picture, source), f"has more than one mask: {names}"))
        elif candidates:
            item = replace(item, mask=candidates[0])
        found.append(item)
    notes = []
    without = sum(item.mask is None for item in found)
    if without:
        notes.append(f"{without} of {len(found)} pictures have no mask")
    orphans = len(masks.keys() - owners.keys())
    if orphans:
        notes.append(f"{orphans} masks have no picture")
    return Listing(tuple(found), tuple(bad), tuple(notes))


def labelled_folder(source: str | Path) -> Listing:
    """`images/` and `masks/` with every third picture, from the first, in split "dev", the rest in "test"."""
    listing = list_folder(source)
    items = tuple(replace(item, split="test" if i % 3 else "dev") for i, item in enumerate(listing.items))
    return replace(listing, items=items)


def _stem(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _shown(path: Path, folder: Path) -> str:
    return shown(path.relative_to(folder).as_posix())


def _shown_problems(problems: list[tuple[Path, str]], folder: Path) -> tuple[tuple[str, str], ...]:
    return tuple((_shown(path, folder), why) for path, why in problems)


def _by_stem(paths: list[Path], folder: Path) -> dict[str, list[Path]]:
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        groups[_stem(path, folder)].append(path)
    return groups


def _items(paths: list[Path], folder: Path) -> list[Item]:
    groups = _by_stem(paths, folder)
    return [
        Item(stem if len(groups[stem := _stem(p, folder)]) == 1 else p.relative_to(folder).as_posix(), p) for p in paths
    ]
