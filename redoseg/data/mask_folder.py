"""A folder of masks that is not part of a set: which mask is whose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from redoseg.images.kinds import IMAGE_SUFFIXES
from redoseg.images.read import list_images


class Matched(NamedTuple):
    """The masks of a folder, by the pictures that they belong to."""

    files: tuple[Path | None, ...]
    """One a picture; None where there is none, or where two could be meant."""
    others: int
    """Files in the folder that belong to no picture."""


def match_masks(folder: Path, names: Sequence[str]) -> Matched:
    """The mask of each picture, for pictures of these names as a set has them.

    A mask has the name of its picture, with or without the folder, and any suffix. Raises DataError if the folder is
    missing or has no picture.
    """
    paths = list_images(folder, with_results=True).images
    own = [PurePosixPath(path.relative_to(folder).as_posix()).with_suffix("") for path in paths]
    whole: dict[str, list[Path]] = {}
    last: dict[str, list[Path]] = {}
    for path, relative in zip(paths, own, strict=True):
        whole.setdefault(str(relative), []).append(path)
        last.setdefault(relative.name, []).append(path)
    spellings = [_spellings(name) for name in names]
    owners = Counter(spelling for these in spellings for spelling in these)

    def mask_of(these: Sequence[str]) -> Path | None:
        for spelling in these:
            alone = owners[spelling] == 1  # else the mask could be another picture's
            found = (whole.get(spelling) if alone or spelling == these[0] else None) or (
                last.get(spelling) if alone else None
            )
            if found:
                return found[0] if len(found) == 1 else None
        return None

    others = sum(str(relative) not in owners and relative.name not in owners for relative in own)
    return Matched(tuple(map(mask_of, spellings)), others)


def _spellings(name: str) -> list[str]:
    """How a mask of this picture may be called, the most exact first: sets name some pictures with their suffix."""
    bare = without_suffix(name)
    return list(dict.fromkeys([name, bare, PurePosixPath(name).name, PurePosixPath(bare).name]))


def without_suffix(name: str) -> str:
    """A picture's name as sets have it; a suffix of a file type is taken off, other dots stay."""
    suffix = PurePosixPath(name).suffix.lower()
    return name[: -len(suffix)] if suffix in IMAGE_SUFFIXES else name
