"""The pictures that a command names: files, folders, patterns and addresses, and the names of their results."""

from __future__ import annotations

import glob
import os
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from redoseg.errors import DataError
from redoseg.files import printable, why_not_there
from redoseg.images.kinds import listed_by_name
from redoseg.images.lists import inside, is_list, listed_in, names_of
from redoseg.images.read import MAX_BYTES, list_images
from redoseg.own_results import is_result
from redoseg.storage import Address, Place, files_below, is_address, is_folder, matching, place_of

STREAM = "-"
"""Standard input as a picture, or standard output as the place of a result."""
_DATA = re.compile(r"data:", re.I)
_MAGIC = re.compile(r"[*?\[]")


class FoundImages(NamedTuple):
    """Pictures to segment."""

    images: list[Place]
    names: list[str]
    """Below the folder that all have in common, with slashes."""
    stems: list[str]
    """Where the result of each goes, below the folder of the results, without its suffix."""
    problems: list[tuple[Place, str]]
    """What cannot be segmented, each with its reason."""
    own: int
    """How many pictures are not among them, since redoseg made them."""
    root: str
    """The name of the folder that all have in common."""


def place_named(given: object, what: str) -> Place:
    """The address or path that a caller of the library names. Raises DataError for another type."""
    if not isinstance(given, str | os.PathLike):
        raise DataError(f"{what} is of type {type(given).__name__}, but must be a path or an address; pass it as text")
    if given == "":
        raise DataError(f"{what} is an empty text, but must be a path or an address; name one")
    return place_of(given)


def expand_patterns(sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[Place]:
    """Places with ~, and the patterns and lists among them replaced by what they mean, such as photos/*.jpg.

    Raises DataError for a path that does not exist, for a list that cannot be read, and for a pattern without a match.
    """
    places: list[Place] = []
    if isinstance(sources, str | os.PathLike) or not isinstance(sources, Iterable):
        sources = [sources]
    for source in sources:
        place_named(source, "a picture to segment")
        text = os.fspath(source)
        if text == STREAM:
            places.append(Path(text))
        elif is_address(text):
            places += _expanded(Address(text))
        else:
            places += _paths(str(place_of(text)))
    if Path(STREAM) in places and len(places) > 1:
        raise DataError(
            f"- (standard input) is one picture, but {len(places):,} are given; choose either - or files and folders"
        )
    addresses = sum(isinstance(place, Address) for place in places)
    if 0 < addresses < len(places):
        raise DataError(
            f"{printable(_first(places, Address))} is an address and {printable(_first(places, Path))} is a path; "
            "segment what is on this machine in a call of its own"
        )
    return list({_key(place): place for place in places}.values())


def _first(places: Sequence[Place], kind: type) -> Place:
    return next(place for place in places if isinstance(place, kind))


def _key(place: Place) -> str:
    """What two names of one picture have in common."""
    return place.text if isinstance(place, Address) else os.path.abspath(place)


def _expanded(address: Address) -> list[Place]:
    """What an address names: itself, what a list there names, or the files that match it as a pattern."""
    if address.on_web or not _MAGIC.search(address.text):
        return listed_in(address) if is_list(address) else [address]
    found = matching(address)
    if not found:
        raise DataError(f"no file matches the pattern {printable(address)}; correct it")
    return [*found]


def _paths(text: str) -> list[Place]:
    """What a path names: itself, the files that match it as a pattern, or those of a list."""
    seen = why_not_there(text)
    if os.path.lexists(text) and seen.startswith("is "):
        return listed_in(Path(text)) if seen == "is a file" and is_list(Path(text)) else [Path(text)]
    if not glob.has_magic(text) or not seen.startswith("does not"):
        if _DATA.match(text):
            raise DataError(
                f"{printable(text)} is a picture in an address, but expected a picture or a folder of pictures; save "
                "it, and choose the file"
            )
        fix = "check the name" if seen.startswith("does not") else "change its permissions or repair it"
        raise DataError(f"{printable(text)} {seen}; expected a picture or a folder of pictures; {fix}")
    found = sorted(glob.glob(text, recursive=True))
    if not found:
        raise DataError(f"no file matches the pattern {printable(text)}; correct it")
    return [*map(Path, found)]


def are_several(sources: Sequence[Place]) -> bool:
    """Whether these are a folder or more than one picture. Raises DataError where a storage cannot be asked."""
    if len(sources) > 1:
        return True
    only = sources[0]
    if isinstance(only, Path):
        return only.is_dir()
    return listed_by_name(only.name) is not True and is_folder(only)


def find_images(places: Sequence[Place], out: Place) -> FoundImages:
    """The pictures of several files and folders, without those in `out`, which an earlier run has made.

    Results have the sub-folders below the folder that all sources have in common, so no two get one name. What would
    differ in suffix or case alone keeps its suffix. Raises DataError where there is no picture.
    """
    addresses = [place for place in places if isinstance(place, Address)]
    if addresses:
        return _list_addresses(addresses, out)
    sources = [place for place in places if isinstance(place, Path)]
    images: dict[str, Path] = {}
    problems: list[tuple[Place, str]] = []
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
    here = os.path.realpath(out) if isinstance(out, Path) else ""
    if here and any(
        os.path.realpath(source) in (here, *map(str, Path(here).parents)) for source in sources if source.is_dir()
    ):
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
    names = [path.as_posix() for path in below]
    return FoundImages(
        images=[*order], names=names, stems=result_stems(below), problems=problems, own=own, root=Path(common).name
    )


def _list_addresses(sources: Sequence[Address], out: Place) -> FoundImages:
    """As `find_images` for addresses. Whether redoseg made a picture is seen when it is fetched."""
    images: list[Address] = []
    problems: list[tuple[Place, str]] = []
    for source in sources:
        if len(sources) > 1 and (source.on_web or listed_by_name(source.name) is True):
            images.append(source)
            continue
        for name, (size, _) in files_below(source).items():
            kind = False if any(part.startswith(".") for part in name.split("/")) else listed_by_name(name)
            image = source / name
            if kind is True and size > MAX_BYTES:
                kind = f"has {size // 10**6} MB, but at most {MAX_BYTES // 10**6} MB are read: make it smaller"
            if kind is True and not (isinstance(out, Address) and image.text.startswith(out.text.rstrip("/") + "/")):
                images.append(image)
            elif isinstance(kind, str):
                problems.append((image, kind))
    if not images:
        where = f" ({problems[0][1]})" if problems else ""
        raise DataError(
            f"no picture found in {printable(sources[0])}{where}; expected files ending in .jpg, .png, .webp, ...; "
            "check the address"
        )
    images = sorted(dict.fromkeys(images))
    roots = [inside(source) if len(sources) == 1 else inside(source).parent for source in sources]
    common = posixpath.commonpath([str(root) for root in roots])
    below = names_of(images, common)
    return FoundImages(
        images=[*images],
        names=[str(path) for path in below],
        stems=result_stems(below),
        problems=problems,
        own=0,
        root=posixpath.basename(common),
    )


def result_stems(paths: Sequence[PurePath]) -> list[str]:
    """A result's name without its suffix for each picture: what differs in case or suffix alone keeps its suffix."""
    whole: set[PurePath] = set()  # pictures that keep their suffix

    def name(path: PurePath) -> str:
        return str(path.with_name(path.name if path in whole else path.stem))

    while True:
        names = [name(p) for p in paths]
        count = Counter(name.lower() for name in names)
        clashing = {p for p, name in zip(paths, names, strict=True) if count[name.lower()] > 1} - whole
        if not clashing:
            return names
        whole |= clashing
