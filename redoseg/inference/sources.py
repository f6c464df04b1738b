"""The pictures that a command names: files, folders and patterns, and the names of their results."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from redoseg.errors import DataError
from redoseg.files import is_result, printable, why_not_there
from redoseg.images.read import list_images

STREAM = "-"
"""Standard input as a picture, or standard output as the place of a result."""
_ADDRESS = re.compile(r"(?:https?|ftps?|s3|gs|data):", re.I)


class Pictures(NamedTuple):
    """Pictures to segment."""

    images: list[Path]
    names: list[str]
    """Below the folder that all have in common, with slashes."""
    stems: list[str]
    """Where the result of each goes, below the folder of the results, without its suffix."""
    problems: list[tuple[Path, str]]
    """What cannot be segmented, each with its reason."""
    own: int
    """How many pictures are not among them, since redoseg made them."""
    root: str
    """The name of the folder that all have in common."""


def expand_patterns(sources: Sequence[str | Path]) -> list[Path]:
    """Paths with ~ and the patterns among them replaced by what they mean, such as photos/*.jpg.

    Raises DataError for a path that does not exist, for an address, and for a pattern without a match.
    """
    paths = []
    for source in sources:
        text = os.path.expanduser(source)
        if text == STREAM:
            paths.append(Path(text))
            continue
        seen = why_not_there(text)
        if os.path.lexists(text) and seen.startswith("is "):
            paths.append(Path(text))
            continue
        if not glob.has_magic(text) or not seen.startswith("does not"):
            if _ADDRESS.match(text):
                raise DataError(
                    f"{printable(text)} is an address, but expected a picture or a folder of pictures; download "
                    "it, and choose the file"
                )
            fix = "check the name" if seen.startswith("does not") else "change its permissions or repair it"
            raise DataError(f"{printable(text)} {seen}; expected a picture or a folder of pictures; {fix}")
        found = sorted(glob.glob(text, recursive=True))
        if not found:
            raise DataError(f"no file matches the pattern {printable(text)}; correct it")
        paths += map(Path, found)
    if Path(STREAM) in paths and len(paths) > 1:
        raise DataError(
            f"- (standard input) is one picture, but {len(paths):,} are given; choose either - or files and folders"
        )
    return list({os.path.abspath(path): path for path in paths}.values())


def list_pictures(sources: Sequence[Path], out: Path) -> Pictures:
    """The pictures of several files and folders, without those in `out`, which an earlier run has made.

    Results have the sub-folders below the folder that all sources have in common, so no two get one name. What would
    differ in suffix or case alone keeps its suffix. Raises DataError where there is no picture.
    """
    images: dict[str, Path] = {}
    problems: list[tuple[Path, str]] = []
    own = 0
    for source in sources:
        if source.is_dir():
            try:
                found = list_images(source)
            except DataError as error:
                if len(sources) == 1:
                    raise
                problems.append((source, str(error).removeprefix(f"{printable(source)} ")))
                continue
            own += found.results
            problems += found.problems
            images |= {os.path.abspath(path): path for path in found.images}
        elif is_result(source):
            own += 1
        else:
            images[os.path.abspath(source)] = source
    here = os.path.realpath(out)
    if any(os.path.realpath(source) in (here, *map(str, Path(here).parents)) for source in sources if source.is_dir()):
        images = {key: path for key, path in images.items() if not Path(os.path.realpath(path)).is_relative_to(here)}
    if not images:
        first = printable(sources[0])
        if own and not problems:
            raise DataError(
                f"{first} has no pictures except {own:,} results of redoseg; choose the folder of the photographs"
            )
        where = f" ({problems[0][1]})" if problems else f" except the results in {printable(out)}"
        raise DataError(f"{first} has no pictures{where}; choose another folder")
    try:
        common = os.path.commonpath([os.path.abspath(s if s.is_dir() else s.parent) for s in sources])
    except ValueError:  # Windows
        raise DataError(
            "the pictures are on several drives; segment those of each drive in a call of its own"
        ) from None
    order = sorted(images.values()) if len(sources) == 1 else [images[key] for key in sorted(images, key=Path)]
    below = [Path(os.path.relpath(path, common)) for path in order]
    return Pictures(order, [path.as_posix() for path in below], result_stems(below), problems, own, Path(common).name)


def result_stems(paths: Sequence[Path]) -> list[str]:
    """A result's name without its suffix for each picture: what differs in case or suffix alone keeps its suffix."""
    whole: set[Path] = set()  # pictures that keep their suffix

    def name(path: Path) -> str:
        return str(path.with_name(path.name if path in whole else path.stem))

    while True:
        names = [name(p) for p in paths]
        count = Counter(name.lower() for name in names)
        clashing = {p for p, name in zip(paths, names, strict=True) if count[name.lower()] > 1} - whole
        if not clashing:
            return names
        whole |= clashing
