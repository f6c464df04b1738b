"""Lists of pictures: a text file with an address or a path on each line."""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from redoseg.errors import DataError
from redoseg.files import describe_error, printable, text_of
from redoseg.storage import Address, Place, place_of

_SUFFIX = ".txt"


def is_list(place: Place) -> bool:
    """Whether a place is a list of pictures, by its name."""
    return place.suffix.lower() == _SUFFIX


def listed_in(file: Place) -> list[Place]:
    """The pictures of a list; lines that begin with # are passed over. A list in storage has addresses alone.

    Raises DataError.
    """
    try:
        lines = [line.strip() for line in text_of(file.read_bytes()).splitlines()]
    except (OSError, ValueError) as error:
        raise DataError(
            f"{printable(file)} cannot be read ({describe_error(error)}); expected a list of pictures, one a line"
        ) from None
    found = [place_of(line) for line in lines if line and not line.startswith("#")]
    if not found:
        raise DataError(f"{printable(file)} is empty; expected a list of pictures, one address or path a line")
    for place in found:
        if isinstance(place, Path) and isinstance(file, Address):
            raise DataError(
                f"{printable(file)} lists {printable(place)}, which is not an address; expected whole addresses, since "
                "the list is not on this machine; correct it"
            )
        if isinstance(place, Path) and not os.path.lexists(place):
            raise DataError(
                f"{printable(file)} lists {printable(place)}, which does not exist; expected a list of pictures, one "
                "address or path a line; correct it"
            )
    return found


def names_of(addresses: Sequence[Address], common: str | None = None) -> list[PurePosixPath]:
    """A path for each address, below the folder `common`, or if it is None below what their folders have in common."""
    paths = [inside(address) for address in addresses]
    if common is None:
        common = posixpath.commonpath([str(path.parent) for path in paths])
    below = [path.relative_to(common) for path in paths]
    count = Counter(below)
    return [_told_apart(path, a) if count[path] > 1 else path for path, a in zip(below, addresses, strict=True)]


def inside(address: Address) -> PurePosixPath:
    """The path of an address as a name for results: one that leads nowhere else and has no odd characters."""
    parts = (re.sub(r"[\x00-\x1f\x7f\\]", "_", part) for part in address.path.parts)
    return PurePosixPath(*(part for part in parts if part not in ("/", "..")))


def _told_apart(path: PurePosixPath, address: Address) -> PurePosixPath:
    """A name for one of several web pages that differ in what follows the path, as in /photo?id=1."""
    return path.with_stem(f"{path.stem}-{hashlib.sha256(address.text.encode()).hexdigest()[:8]}")
