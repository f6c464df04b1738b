"""Masks that a person gave on purpose: repaired ones in a folder, or a review with pictures accepted or refused."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from redoseg.data.decoding import decode
from redoseg.data.listing import Item
from redoseg.data.mask_folder import without_suffix
from redoseg.data.open import labelled_images
from redoseg.data.prepared import ImageSet
from redoseg.data.splits import fields_of, read_lines
from redoseg.errors import DataError
from redoseg.files import at_home, printable
from redoseg.system import cores

_VERDICTS = {"accept": True, "accepted": True, "refuse": False, "refused": False, "": None}
_OPTION = "--refine.corrected"


@dataclass(frozen=True)
class Corrected:
    """Pictures with masks that a person stands for, and the names of those whose masks a person refused."""

    images: ImageSet
    """Each has a mask; none where a review only refuses."""
    refused: tuple[str, ...] = ()

    def digest(self) -> str:
        """A hash of pictures, masks and names."""
        names = repr((self.images.names, self.refused)).encode()
        return hashlib.sha256(self.images.digest().encode() + names).hexdigest()


def open_corrected(source: str, size: int, mask_values: str = "auto") -> Corrected:
    """The corrections in `source`, at `size` [pixels].

    It is a folder with `images/` and `masks/`, a prepared set, or a table as `segment --review` writes it. Pictures of
    a folder that have no mask are not used. `mask_values` is as for `open_data`. Raises DataError: nothing there, no
    mask that can be used, a wrong line of the table.
    """
    path = at_home(source)
    if path.is_dir():
        try:  # an absolute path is never the name of a built-in set
            return Corrected(labelled_images(str(path.absolute()), size, mask_values=mask_values))
        except DataError as error:
            raise DataError(str(error).replace("--mask-values", "--refine.corrected-values")) from None
    if not path.is_file():
        raise DataError(
            f"{_OPTION} is {printable(path)}, which does not exist; choose a folder with images/ and masks/, or a "
            "review.csv"
        )
    return _open_review(path, size)


def same_images(names: tuple[str, ...], others: tuple[str, ...]) -> set[int]:
    """Numbers of the pictures in `names` that `others` also name, with or without the folder and the file's suffix.

    Without the folder only where one picture alone has that name.
    """
    whole: dict[str, int] = {without_suffix(name): number for number, name in enumerate(names)}
    last: dict[str, list[int]] = {}
    for name, number in whole.items():
        last.setdefault(PurePosixPath(name).name, []).append(number)
    found = set()
    for other in map(without_suffix, others):
        alike = last.get(PurePosixPath(other).name, [])
        if other in whole:
            found.add(whole[other])
        elif len(alike) == 1:
            found.add(alike[0])
    return found


class _Row(NamedTuple):
    """A line of a review on which a person has decided."""

    where: str
    values: dict[str, str]
    accepted: bool


def _open_review(table: Path, size: int) -> Corrected:
    rows = list(_decided(table))
    if not rows:
        raise DataError(f"{printable(table)} has no verdict; write accept or refuse into its column verdict")
    items = [_accepted(row, table) for row in rows if row.accepted]
    refused = tuple(row.values["picture"] for row in rows if not row.accepted)
    pixels = np.zeros((len(items), size, size, 3), np.uint8)
    masks = np.zeros((len(items), size, size), np.uint8)
    for i, decoded in enumerate(decode(items, size, threads=cores())):
        if decoded.image is None or decoded.mask is None:
            path, why = decoded.problems[0]
            raise DataError(f"{printable(path)}: {why.split(';')[0]}; repair it, or remove its line in the review")
        pixels[i], masks[i] = decoded.image, decoded.mask
    count = len(items)
    images = ImageSet(
        name=table.name,
        size=size,
        regions=2,
        pixels=pixels,
        masks=masks,
        names=tuple(item.name for item in items),
        splits=("",) * count,
        labelled=np.ones(count, np.bool_),
    )
    return Corrected(images, refused)


def _decided(table: Path) -> Iterator[_Row]:
    """The lines that have a verdict. Raises DataError for a table of another form, and for an unknown verdict."""
    lines = read_lines(table)
    header = lines[0][1] if lines else ""
    delimiter = max(",;\t", key=header.count)  # a spreadsheet may have changed it
    columns = fields_of(header, delimiter, lines[0][0]) if lines else []
    for column in ("picture", "verdict"):
        if column not in columns:
            raise DataError(
                f"{printable(table)} has no column {column}; expected a table that `redoseg segment --review` wrote; "
                "make it again, or add the column"
            )
    for where, line in lines[1:]:
        fields = fields_of(line, delimiter, where)
        if len(fields) > len(columns):
            raise DataError(f"{where} has {len(fields)} values, but there are {len(columns)} columns; correct it")
        values = dict(zip(columns, [*fields, *[""] * len(columns)], strict=False))
        verdict = values["verdict"]
        if verdict.lower() not in _VERDICTS:
            raise DataError(f"{where}: the verdict is {verdict!r}, but must be accept, refuse or empty; correct it")
        accepted = _VERDICTS[verdict.lower()]
        if accepted is not None:
            yield _Row(where, values, accepted)


def _accepted(row: _Row, table: Path) -> Item:
    """The picture and the mask of an accepted line, whose paths start at the table."""
    paths = []
    for column, remedy in (("file", "write the path of the picture there"), ("mask", "segment with --as mask")):
        given = row.values.get(column, "")
        if not given:
            raise DataError(
                f"{row.where}: {printable(row.values['picture'])} is accepted, but its column {column} is empty; "
                f"{remedy}"
            )
        path = table.parent / given
        if not os.path.isfile(path):
            raise DataError(
                f"{row.where} names {printable(path)}, which does not exist; put it back, or empty the verdict"
            )
        paths.append(path)
    image, mask = paths
    return Item(row.values["picture"], image, mask)
