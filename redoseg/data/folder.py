"""Any folder of pictures; or pictures with masks: `images/` beside `masks/`, and what else is usual."""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

from redoseg.data.listing import Item, Listing
from redoseg.data.splits import apply_splits, read_splits
from redoseg.errors import DataError
from redoseg.files import printable
from redoseg.images.kinds import IMAGE_SUFFIXES
from redoseg.images.read import list_images

SPLIT_FILES = ("splits.csv", "splits.txt")

# What folders of pictures and of masks are called, in small letters, in the order in which they count.
_IMAGES = ("images", "image", "imgs", "img", "jpegimages")
_MASKS = (
    "masks", "mask", "labels", "label", "segmentationclass", "segmentationobject", "segmentations", "segmentation",
    "annotations", "groundtruth", "ground_truth", "gt",
)  # fmt: skip
_SPLIT_FOLDERS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "dev",
    "test": "test", "testing": "test", "tr": "train", "te": "test",
}  # fmt: skip
_OF_SPLIT = ("_masks", "_mask", "_labels", "_label", "masks", "annot")  # train/ and train_masks/
# Words in the names of such folders, as in ISIC_Training_Input and ISIC_Training_GroundTruth.
_MASK_WORD = re.compile(r"(masks?|labels?|gt|groundtruth|seg|segmentations?|annotations?|annot|trimaps?|mattes?)$")
_IMAGE_WORD = re.compile(r"(images?|imgs?|im|photos?|pictures?|inputs?|rgb)$")
_MASK_ENDING = re.compile(r"[_\-. ](mask|masks|seg|segmentation|label|labels|gt|matte)$", re.I)


def list_folder(source: str | Path) -> Listing:
    """The pictures of a folder, sorted, with their masks where they are in one of the usual places.

    These are `images/` and `masks/` (or `labels/`, `image/` and `mask/`, Pascal VOC's names), with the same stems; the
    same in `train/`, `val/`, `test/`, which are then the splits; and `x_mask.png` beside `x.jpg`.
    `masks/` may be missing or have only some. A stem that two pictures or two masks share says not which mask
    is whose: those are kept without a mask and listed. Splits are those of `splits.csv` or `splits.txt` in the
    folder. Raises DataError for a missing or empty folder, and for a wrong file of splits.
    """
    source = Path(source)
    listing = _without_splits(source)
    files = [source / name for name in SPLIT_FILES if os.path.isfile(source / name)]
    if not files and listing.items:  # Pascal VOC's lists are beside the folder of its pictures
        lists = listing.items[0].image.parent.parent / "ImageSets" / "Segmentation"
        files = [lists] if listing.items[0].image.parent.name == "JPEGImages" and os.path.isdir(lists) else []
    if len(files) > 1:
        raise DataError(f"{printable(source)} has both {' and '.join(SPLIT_FILES)}; remove one of them")
    return apply_splits(listing, read_splits(files[0]), printable(files[0])) if files else listing


def labelled_folder(source: str | Path) -> Listing:
    """`images/` and `masks/` with every third picture, from the first, in split "dev", the rest in "test".

    A file of splits in the folder counts before that. Raises DataError if there is no `images/`, and as `list_folder`.
    """
    if not os.path.isdir(_within(Path(source), "images")):
        raise DataError(f"{printable(source)} has no images/; choose the folder that contains images/ and masks/")
    listing = list_folder(source)
    if any(item.split for item in listing.items):
        return listing
    items = tuple(replace(item, split="test" if i % 3 else "dev") for i, item in enumerate(listing.items))
    return replace(listing, items=items)


def shown_problems(problems: list[tuple[Path, str]], folder: Path) -> tuple[tuple[str, str], ...]:
    """What `list_images` could not look at, with each path relative to `folder`."""
    return tuple((_shown(path, folder), why) for path, why in problems)


def _without_splits(source: Path) -> Listing:
    pairs = _find_pairs(source)
    if pairs:
        parts = [_labelled(pair, source) for pair in pairs]
        return Listing(
            tuple(item for part in parts for item in part.items),
            tuple(pair for part in parts for pair in part.bad),
            tuple(dict.fromkeys(note for part in parts for note in part.notes)),
            sum(part.results for part in parts),
        )
    images = _within(source, "images")
    if not os.path.isdir(images):
        paths, problems, results = list_images(source)
        items, notes = _masks_beside(_items(paths, source), source)
        notes += _twin_folders(source)
        return Listing(tuple(items), shown_problems(problems, source), notes, results)
    paths, problems, results = list_images(images)
    beside = 0
    with contextlib.suppress(OSError):
        beside = sum(p.suffix.lower() in IMAGE_SUFFIXES and p.name[0] != "." for p in source.iterdir())
    notes = (f"pictures beside images/, not used: {beside:,}",) if beside else ()
    notes += _not_masks(source)
    return Listing(tuple(_items(paths, images)), shown_problems(problems, source), notes, results)


def _labelled(pair: _Pair, source: Path) -> Listing:
    """The pictures of one folder with the masks of another."""
    paths, problems, results = list_images(pair.images)
    items = _items(paths, pair.images)
    bad = list(shown_problems(problems, source))
    try:
        files, problems, _ = list_images(pair.masks, with_results=True)
    except DataError:  # nothing is labelled
        shown = _shown(pair.masks, source)
        with contextlib.suppress(OSError):
            if not os.listdir(pair.masks):
                return Listing(pair.named(items), tuple(bad), (f"{shown}/ is empty",), results)
        why = "has no mask that can be read; expected files ending in .png, .jpg, ...; repair or remove it"
        return Listing(pair.named(items), (*bad, (shown, why)), results=results)
    bad += shown_problems(problems, source)
    masks = _by_stem(files, pair.masks)
    owners = _by_stem(paths, pair.images)
    for stem in masks.keys() - owners.keys():  # x_mask.png is that of x.jpg
        owner = _MASK_ENDING.sub("", stem)
        if owner in owners and owner not in masks:
            masks[owner] = masks.pop(stem)
    found: list[Item] = []
    for item in items:
        stem = _stem(item.image, pair.images)
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
    in_split = f" in {pair.split}" if pair.split else ""
    without = sum(item.mask is None for item in found)
    if without:
        said.append(f"{without} of {len(found)} pictures{in_split} have no mask")
    orphans = len(masks.keys() - owners.keys())
    if orphans:
        said.append(f"{orphans} masks{in_split} have no picture")
    return Listing(pair.named(_split_by_folder(found, pair.images)), tuple(bad), tuple(said), results)


@dataclass(frozen=True)
class _Pair:
    """A folder of pictures and the one of their masks."""

    images: Path
    masks: Path
    split: str = ""

    def named(self, items: list[Item]) -> tuple[Item, ...]:
        """The items in this split, whose name begins theirs, as splits may have pictures of the same names."""
        if not self.split:
            return tuple(items)
        return tuple(replace(item, name=f"{self.split}/{item.name}", split=self.split) for item in items)


def _find_pairs(source: Path) -> list[_Pair]:
    """Where pictures and masks are: in `source`, in the folder of each of its splits, or in its only folder."""
    inside = _folders(source)
    here = _pair_of(source, inside)
    if here is not None:
        return [here]
    found: list[_Pair] = []
    for name, path in inside.items():
        if name in _SPLIT_FOLDERS:
            masks = next((inside[f"{name}{end}"] for end in _OF_SPLIT if f"{name}{end}" in inside), None)
            pair = _Pair(path, masks) if masks is not None else _pair_of(path, _folders(path))
            if pair is not None:
                found.append(replace(pair, split=_SPLIT_FOLDERS[name]))
    found = found or _named_alike(inside)
    if not found and len(inside) == 1:
        only = next(iter(inside.values()))
        pair = _pair_of(only, _folders(only))
        found = [pair] if pair is not None else []
    return found


def _pair_of(folder: Path, inside: dict[str, Path]) -> _Pair | None:
    """The pair that has names of _IMAGES and _MASKS; images/ and masks/ count first."""
    if "images" in inside and "masks" in inside:
        return _Pair(inside["images"], inside["masks"])
    images = next((inside[name] for name in _IMAGES if name in inside), None)
    if images is None:
        return None
    for name in _MASKS:
        if name in inside and _has_images(inside[name]):
            return _Pair(images, _inner(inside[name], images))
    return None


def _inner(masks: Path, images: Path) -> Path:
    """The only folder in one of masks that has pictures, as `annotations/trimaps`, unless the images have it too."""
    with contextlib.suppress(OSError):
        inside = _folders(masks)
        direct = any(p.suffix.lower() in IMAGE_SUFFIXES and p.is_file() for p in masks.iterdir())
        if not direct and not inside.keys() & _folders(images).keys():
            with_images = [path for path in inside.values() if _has_images(path)]
            return with_images[0] if len(with_images) == 1 else masks
    return masks


def _named_alike(inside: dict[str, Path]) -> list[_Pair]:
    """Folders whose names differ by a word for masks, as DUTS-TR-Image and DUTS-TR-Mask, and that share names."""
    groups: dict[tuple[str, ...], list[tuple[bool, Path]]] = defaultdict(list)
    for name, path in inside.items():
        words = re.findall(r"[a-z]+|\d+", name)
        rest = (_IMAGE_WORD.sub("", _MASK_WORD.sub("", word)) for word in words)
        groups[tuple(filter(None, rest))].append((any(map(_MASK_WORD.search, words)), path))
    found = []
    for about, folders in groups.items():
        if sorted(is_mask for is_mask, _ in folders) == [False, True]:
            images, masks = (path for _, path in sorted(folders))
            if _share_names(images, masks):
                split = next((_SPLIT_FOLDERS[word] for word in about if word in _SPLIT_FOLDERS), "")
                found.append(_Pair(images, masks, split))
    return found


def _share_names(images: Path, masks: Path) -> bool:
    """Whether most pictures of the second folder, which redoseg did not write, are called like those of the first."""
    try:
        names = {_stem(path, images) for path in list_images(images).images}
        stems = [_stem(path, masks) for path in list_images(masks).images]
    except DataError:
        return False
    return 2 * sum(stem in names or _MASK_ENDING.sub("", stem) in names for stem in stems) > len(stems)


def _folders(source: Path) -> dict[str, Path]:
    """The folders in a folder by their names in small letters, sorted."""
    with contextlib.suppress(OSError):
        return {p.name.lower(): p for p in sorted(source.iterdir()) if p.name[0] != "." and p.is_dir()}
    return {}


def _has_images(folder: Path) -> bool:
    try:
        return bool(list_images(folder, with_results=True).images)
    except DataError:
        return False


def _not_masks(source: Path) -> tuple[str, ...]:
    """A note on a folder that is called like one of masks and has no pictures, only boxes or polygons."""
    named = [path for name, path in _folders(source).items() if name in _MASKS and not _has_images(path)]
    return tuple(f"{printable(path.name)}/ has no pictures; masks are read from pictures alone" for path in named)


def _twin_folders(source: Path) -> tuple[str, ...]:
    """A note where two folders have pictures of the same names, one of which may be their masks."""
    inside = [path for path in _folders(source).values() if _has_images(path)]
    if len(inside) != 2 or not (_share_names(*inside) and _share_names(*reversed(inside))):
        return ()
    names = " and ".join(f"{printable(path.name)}/" for path in inside)
    return (f"{names} have pictures of the same names; if one has the masks, call them images/ and masks/",)


def _masks_beside(items: list[Item], source: Path) -> tuple[list[Item], tuple[str, ...]]:
    """The pictures of a folder with masks of names such as x_mask.png beside x.jpg; a note on pairs that may be masks.

    Where there is one such pair, other files of such names are masks without a picture.
    """
    stems = _by_stem([item.image for item in items], source)
    masks = {
        owner: paths
        for stem, paths in stems.items()
        if (owner := _MASK_ENDING.sub("", stem)) != stem and owner in stems and len(stems[owner]) == len(paths) == 1
    }
    if not masks:
        twins = sum(len(paths) == 2 and {p.suffix.lower() for p in paths} >= {".png"} for paths in stems.values())
        if twins and 2 * twins == len(items):
            return items, ("each name has two pictures, one a .png; masks are only found in a folder masks/",)
        return items, ()
    found = []
    orphans = 0
    for item in items:
        stem = _stem(item.image, source)
        if _MASK_ENDING.search(stem) and stem not in masks:
            orphans += _MASK_ENDING.sub("", stem) not in masks
        else:
            found.append(replace(item, mask=masks[stem][0] if stem in masks else None))
    without = sum(item.mask is None for item in found)
    notes = [f"{without} of {len(found)} pictures have no mask"] if without else []
    if orphans:
        notes.append(f"{orphans} masks have no picture")
    return _split_by_folder(found, source), tuple(notes)


def _split_by_folder(items: list[Item], folder: Path) -> list[Item]:
    """The items in the splits whose folders they are in, where each is in one."""
    tops = [item.image.relative_to(folder).parts[0].lower() for item in items]
    if not set(tops) <= _SPLIT_FOLDERS.keys():
        return items
    return [replace(item, split=_SPLIT_FOLDERS[top]) for item, top in zip(items, tops, strict=True)]


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
