"""The research sets in their own layouts. Every reader takes what is there and says what is missing."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from redoseg.data.folder import labelled_folder, list_folder, shown_problems
from redoseg.data.listing import Item, Listing
from redoseg.data.matlab import read_mat
from redoseg.data.splits import apply_splits, draw_splits, drop_splits, read_lines, read_splits
from redoseg.errors import DataError, did_you_mean
from redoseg.files import printable, why_not_there
from redoseg.images.read import BACKGROUND, OBJECT, UNLABELLED, list_images, read_image

# The paper trains on what Oxford calls the test pictures, and tests on the training pictures.
FLOWERS102_SPLITS = {"train": ("tstid", 6149), "val": ("valid", 1020), "test": ("trnid", 1020)}

FLOWERS17_IMAGES, FLOWERS17_TRIMAPS = 1360, 849

LFW_IMAGES, LFW_PARTS = 13233, 2927
LFW_SPLITS = {"val": 1327, "test": 1600}

CUB_IMAGES = 11788
CUB_SPLITS = {"val": 788, "test": 1000}


# ------------------------------------------------------------------------------------------------- Flowers


def is_flowers102(source: str | Path) -> bool:
    """Whether the folder has Oxford's own layout of Flowers-102."""
    return os.path.isfile(Path(source, "setid.mat")) and os.path.isdir(Path(source, "jpg"))


def flowers102(source: str | Path) -> Listing:
    """Flowers-102: `jpg/image_00001.jpg`, `setid.mat` and, if they are there, `segmim/segmim_00001.jpg`.

    Raises DataError if the layout is another.
    """
    source = Path(source)
    expected = "expected the layout of Flowers-102; name the folder that contains jpg/, setid.mat and segmim/"
    if not is_flowers102(source):
        missing = "jpg" if os.path.isfile(source / "setid.mat") else "setid.mat"
        raise DataError(f"{_seen(source, missing)}; {expected}")
    ids = read_mat(source / "setid.mat")
    items: list[Item] = []
    notes: list[str] = []
    for split, (key, official) in FLOWERS102_SPLITS.items():
        if key not in ids or not np.isfinite(ids[key]).all():
            raise DataError(
                f"{printable(source / 'setid.mat')} has no {key!r}; expected tstid, valid and trnid; fetch the file "
                "again"
            )
        found = []
        for number in sorted({int(i) for i in ids[key]}):
            image = source / "jpg" / f"image_{number:05d}.jpg"
            mask = source / "segmim" / f"segmim_{number:05d}.jpg"
            if os.path.isfile(image):
                found.append(Item(image.stem, image, mask if os.path.isfile(mask) else None, split, read_segmim))
        if len(found) != official:
            notes.append(f"{split}: {_here(len(found), official)}")
        items += found
    if not items:
        raise DataError(f"{printable(source / 'jpg')} has no picture that setid.mat lists; {expected}")
    notes = notes or [_here(len(items), len(items))]
    return Listing(tuple(items), notes=(*notes, *_unmasked(items, "segmim/")))


def read_segmim(path: Path) -> NDArray[np.uint8]:
    """A Flowers-102 segmentation as a mask (H, W): background where R is 0, G is 0 or B is 254.

    The paper's rule. The files are JPEGs, whose noise moves such exact values: single pixels may be wrong.
    """
    pixels = np.asarray(read_image(path))
    background = (pixels[..., 0] == 0) | (pixels[..., 1] == 0) | (pixels[..., 2] == 254)
    return np.where(background, BACKGROUND, OBJECT).astype(np.uint8)


def flowers17(source: str | Path) -> Listing:
    """Flowers-17: `images/` and `masks/`, or Oxford's `jpg/image_0001.jpg` and `trimaps/image_0001.png`.

    Every third labelled picture, from the first, is in split "dev", the others in "test"; in Oxford's layout
    what has no trimap is in "train". Raises DataError if the layout is another.
    """
    source = Path(source)
    if os.path.isdir(source / "images"):
        return labelled_folder(source)
    expected = "expected images/ and masks/, or jpg/image_0001.jpg and trimaps/; name the folder that contains them"
    if not os.path.isdir(source / "jpg"):
        raise DataError(f"{_seen(source, 'images folder and no jpg folder')}; {expected}")
    listing = _named(source / "jpg", r"image_\d{4}\.jpg", source)
    if not listing.items:
        raise DataError(f"{printable(source / 'jpg')} has no image_0001.jpg; {expected}")
    items: list[Item] = []
    labelled = 0
    for item in listing.items:
        trimap = source / "trimaps" / f"{item.name}.png"
        if os.path.isfile(trimap):
            split = "test" if labelled % 3 else "dev"
            items.append(replace(item, mask=trimap, split=split, read_mask=read_trimap))
            labelled += 1
        else:
            items.append(replace(item, split="train"))
    notes = (_here(len(items), FLOWERS17_IMAGES), _here(labelled, FLOWERS17_TRIMAPS, "trimaps"))
    return replace(listing, items=tuple(items), notes=(*notes, *listing.notes))


def read_trimap(path: Path) -> NDArray[np.uint8]:
    """A Flowers-17 trimap as a mask (H, W): red (128, 0, 0) is flower, blue (0, 0, 128) background, else not labelled.

    A colour counts as red or blue where that part is more than the other two together. The colours are as others
    describe them; they were not checked on the official files. Raises DataError if no flower or no background is found.
    """
    pixels = np.asarray(read_image(path))
    mask = np.full(pixels.shape[:2], UNLABELLED, np.uint8)
    mask[_mostly(pixels, 0)] = OBJECT
    mask[_mostly(pixels, 2)] = BACKGROUND
    for value, what in ((OBJECT, "red, the flower"), (BACKGROUND, "blue, the background")):
        if not (mask == value).any():
            raise DataError(
                f"{printable(path)}: nothing in this mask is {what}, but it needs both red and blue; put other "
                "masks into masks/"
            )
    return mask


# --------------------------------------------------------------------------------------------------- faces


def lfw(source: str | Path) -> Listing:
    """LFW: `NAME/NAME_0001.jpg` in `lfw_funneled/` (the paper's), `lfw-deepfunneled/` or `lfw/`, or in `source` itself.

    Part labels are `parts_lfw_funneled_gt_images/NAME_0001.ppm`, in `source` or beside the folder of pictures. They
    belong to the funneled pictures and are not used with the deep-funneled or the unaligned ones (`lfw/`), which the
    folder's name shows. The paper's numbers of pictures are drawn for its splits, among the labelled ones if there are
    any. Raises DataError if the layout is another.
    """
    source = Path(source)
    folders = [source / name for name in ("lfw_funneled", "lfw-deepfunneled", "lfw_deepfunneled", "lfw")]
    for folder in (*folders, source):
        listing = _named(folder, r"([^/]+)/\1_\d{4}\.jpg", source)
        if listing.items:
            break
    else:
        raise DataError(
            f"{_seen(source, 'NAME/NAME_0001.jpg')}; expected the layout of LFW; "
            "name the folder that contains lfw_funneled/ and parts_lfw_funneled_gt_images/"
        )
    place = Path(os.path.abspath(folder))
    parts = [f / "parts_lfw_funneled_gt_images" for f in (source, place.parent)]
    where = next((f for f in parts if os.path.isdir(f)), None)
    notes = [_here(len(listing.items), LFW_IMAGES)]
    items: Sequence[Item] = listing.items
    if where is None:
        notes.append("no picture has a mask: parts_lfw_funneled_gt_images/ is not here")
    elif "deep" in place.name or place.name == "lfw":
        kind = "deep-funneled" if "deep" in place.name else "not aligned"
        notes.append(
            f"part labels are not used: they belong to the funneled pictures, those in {printable(place.name)}/ are "
            f"{kind}"
        )
    else:
        items = [_with_mask(item, where / f"{item.name}.ppm", read_parts) for item in items]
        notes.append(_here(sum(item.mask is not None for item in items), LFW_PARTS, "part labels"))
    drawn, note = draw_splits(items, LFW_SPLITS, LFW_IMAGES, "lfw")
    return replace(listing, items=drawn, notes=(*notes, *listing.notes, note))


def read_parts(path: Path) -> NDArray[np.uint8]:
    """LFW's part labels as a mask (H, W): hair (red) and face (green) are the object, blue is background."""
    return np.where(_mostly(np.asarray(read_image(path)), 2), BACKGROUND, OBJECT).astype(np.uint8)


# --------------------------------------------------------------------------------------------------- birds


def cub200(source: str | Path) -> Listing:
    """CUB-200-2011: `CUB_200_2011/` with `images.txt` and `images/`, and `segmentations/` beside or in it.

    `source` may also be `CUB_200_2011/` itself. The paper's numbers of pictures are drawn for its splits, among the
    labelled ones if there are any. Raises DataError if the layout is another.
    """
    source = Path(source)
    root = source / "CUB_200_2011"
    if not os.path.isdir(root):
        root = source
    expected = (
        "expected the layout of CUB-200-2011; name the folder that contains CUB_200_2011/ (images.txt and images/) "
        "and segmentations/"
    )
    for missing in ("images.txt", "images"):
        if not os.path.exists(root / missing):
            raise DataError(f"{_seen(root, missing)}; {expected}")
    folders = [f / "segmentations" for f in (source, root, Path(os.path.abspath(root)).parent)]
    masks = next((f for f in folders if os.path.isdir(f)), None)
    items: list[Item] = []
    for name, number in _cub_names(root / "images.txt"):
        if os.path.isfile(root / "images" / f"{name}.jpg"):
            item = Item(name, root / "images" / f"{name}.jpg", number=number)
            items.append(_with_mask(item, masks / f"{name}.png", read_grey) if masks else item)
    if not items:
        raise DataError(f"{printable(root / 'images')} has no picture that images.txt lists; {expected}")
    drawn, note = draw_splits(items, CUB_SPLITS, CUB_IMAGES, "cub200-2011")
    return Listing(drawn, notes=(_here(len(items), CUB_IMAGES), *_unmasked(items, "segmentations/"), note))


def _cub_names(path: Path) -> list[tuple[str, str]]:
    """CLASS/NAME and number of every line "1 CLASS/NAME.jpg", sorted by name."""
    names: dict[str, str] = {}
    for where, line in read_lines(path):
        # No part begins with a dot: no name leads out of the folder.
        fit = re.fullmatch(r"0*(\d+)\s+([^/.\s][^/\s]*/[^/.\s][^/\s]*)\.jpg", line)
        if fit is None:
            raise DataError(f"{where}: the line is {line[:80]!r}; expected '1 CLASS/NAME.jpg'; fetch the file again")
        names.setdefault(fit[2], fit[1])
    return sorted(names.items())


def read_grey(path: Path) -> NDArray[np.uint8]:
    """A CUB segmentation, an average of what annotators drew, as a mask (H, W): object where over half."""
    return np.where(np.asarray(read_image(path).convert("L")) > 127.5, OBJECT, BACKGROUND).astype(np.uint8)


# ------------------------------------------------------------------------------------------ what they share


def _seen(source: Path, missing: str) -> str:
    if os.path.isdir(source):
        return f"{printable(source)} has no {missing}"
    return f"{printable(source)} {why_not_there(source)}"


def _here(found: int, official: int, what: str = "pictures") -> str:
    if found == official:
        return f"all {official:,} official {what} are here"
    return f"{found:,} of the official {official:,} {what} are here"


def _unmasked(items: Sequence[Item], where: str) -> tuple[str, ...]:
    without = sum(item.mask is None for item in items)
    return (f"{without:,} of {len(items):,} pictures have no mask in {where}",) if without else ()


def _named(folder: Path, pattern: str, source: Path) -> Listing:
    """The pictures below `folder` whose path in it fits `pattern`, by the stem of their file; none if there is none."""
    try:
        images, problems, _ = list_images(folder)
    except DataError:
        return Listing(())
    fit = [p for p in images if re.fullmatch(pattern, p.relative_to(folder).as_posix())]
    others = sum(p.suffix == ".jpg" for p in images) - len(fit)
    notes = (f"pictures of other names, not used: {others:,}",) if others else ()
    return Listing(tuple(Item(p.stem, p) for p in fit), shown_problems(problems, source), notes)


def _with_mask(item: Item, mask: Path, read: Callable[[Path], NDArray[np.uint8]]) -> Item:
    return replace(item, mask=mask, read_mask=read) if os.path.isfile(mask) else item


def _mostly(pixels: NDArray[np.uint8], part: int) -> NDArray[np.bool_]:
    """Where in (H, W, 3) one part of the colour is more than the other two together, (H, W)."""
    more: NDArray[np.bool_] = 2 * pixels[..., part].astype(np.int16) > pixels.sum(-1, dtype=np.int16)
    return more


READERS: dict[str, Callable[[str | Path], Listing]] = {
    "flowers102": flowers102,
    "flowers17": flowers17,
    "lfw": lfw,
    "cub200-2011": cub200,
    "butterflies": labelled_folder,
    "horses": labelled_folder,
    "celebamask": labelled_folder,
    "folder": list_folder,
}
"""Name of a set -> what lists its pictures."""


def recognise(source: str | Path) -> str:
    """Which of READERS the folder is laid out for: a research set's own layout, else "folder"."""
    source = Path(source)
    if is_flowers102(source):
        return "flowers102"
    marks = {
        "flowers17": ("jpg", "trimaps"),
        "cub200-2011": ("images.txt", "images"),
        "lfw": ("lfw_funneled",),
    }
    if os.path.isdir(source / "CUB_200_2011"):
        return "cub200-2011"
    return next((name for name, needed in marks.items() if all(os.path.exists(source / n) for n in needed)), "folder")


# --------------------------------------------------------------------------------------------- sets and mixes


def parts_of(name: str, sources: Sequence[Path]) -> list[tuple[str, Path]]:
    """Each part of a set or mix, one of READERS, with its folder. Raises DataError: an unknown name, other numbers."""
    kinds = name.split("+")
    for kind in kinds:
        if kind not in READERS:
            raise DataError(
                f"set {kind!r} is not known; {did_you_mean(kind, READERS)}expected one of {', '.join(READERS)}"
            )
    if len(sources) != len(kinds):
        raise DataError(
            f"{len(sources)} source folders are given, but {name} needs {len(kinds)}; give one for "
            "each part, in its order"
        )
    return list(zip(kinds, sources, strict=True))


def list_set(name: str, sources: Sequence[Path], splits: Path | None = None) -> tuple[str, Path, Listing]:
    """Lists the set `name`, one of READERS, or a mix of them as "flowers102+lfw".

    Args:
        name: in a mix each picture's name begins with its part's, as "lfw/"; a folder's part has the folder's name,
            and parts of one name are numbered.
        sources: the set's folder; for a mix one folder a part, in the same order.
        splits: what `read_splits` reads, in place of the set's own or drawn splits.

    Returns:
        The set's name to show (a folder's own), the folder that contains all of it, and its pictures, part after part.

    Raises:
        DataError: an unknown name, too few or too many folders, another layout than expected, wrong splits.
    """
    kinds = [kind for kind, _ in parts_of(name, sources)]
    if len(kinds) == 1:
        root = sources[0]
        display = _display(name, root)
        listing = READERS[name](root)
    else:
        sources = [source.absolute() for source in sources]
        root = Path(os.path.commonpath(sources))
        names = [_display(kind, source) for kind, source in zip(kinds, sources, strict=True)]
        display = "+".join(names)
        parts = []
        for kind, source, prefix in zip(kinds, sources, _numbered(names), strict=True):
            part = READERS[kind](source)
            parts.append(_prefixed(part if splits is None else drop_splits(part), prefix, source.relative_to(root)))
        listing = Listing(
            tuple(item for part in parts for item in part.items),
            tuple(pair for part in parts for pair in part.bad),
            tuple(note for part in parts for note in part.notes),
            sum(part.results for part in parts),
        )
        if splits is None:
            listing = _note_unsplit(listing)
    if splits is not None:
        listing = apply_splits(listing, read_splits(splits), printable(splits))
    return display, root, listing


def _note_unsplit(listing: Listing) -> Listing:
    """Says how many pictures of a mix are in no split where others are in one: nobody would train on them."""
    without = sum(not item.split for item in listing.items)
    if without in (0, len(listing.items)):
        return listing
    return replace(
        listing, notes=(*listing.notes, f"pictures in no split: {without:,}; give theirs with redoseg prepare --splits")
    )


def _display(kind: str, source: Path) -> str:
    if kind != "folder":
        return kind
    # Without "." and "..", which name nothing; the root of all folders has no name.
    return printable(os.path.basename(os.path.abspath(source))) or kind


def _numbered(names: Sequence[str]) -> list[str]:
    """The names with "-1", "-2", ... to those that are there more than once."""
    counts = Counter(names)
    taken = {name for name in names if counts[name] == 1}
    found = []
    for name in names:
        number, unique = 1, name
        while counts[name] > 1 and (unique := f"{name}-{number}") in taken:
            number += 1
        taken.add(unique)
        found.append(unique)
    return found


def _prefixed(part: Listing, prefix: str, below: Path) -> Listing:
    """A part of a mix: its names and notes say which, and its bad files are relative to the mix's folder."""
    return Listing(
        tuple(replace(item, name=f"{prefix}/{item.name}") for item in part.items),
        tuple(((PurePosixPath(printable(below)) / path).as_posix(), why) for path, why in part.bad),
        tuple(f"{prefix}: {note}" for note in part.notes),
        part.results,
    )
