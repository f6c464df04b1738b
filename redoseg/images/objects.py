"""What was found in a photograph, as labelling tools and tables want to know it: objects, their boxes and masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from redoseg.images.clean import Runs
from redoseg.images.photo import Photo
from redoseg.images.polygons import Polygon, polygons_of

Bools = NDArray[np.bool_]
Box = tuple[int, int, int, int]
"""Left, top, width and height [pixels]."""


class Found(NamedTuple):
    """An object in a photograph."""

    box: Box
    mask: Bools
    """Within the box, (height, width)."""

    @property
    def area(self) -> int:
        """Of its mask [pixels]."""
        return int(np.count_nonzero(self.mask))

    def within(self, size: tuple[int, int]) -> Bools:
        """Its mask (H, W) within the photograph of this size (width, height)."""
        left, top, width, height = self.box
        whole = np.zeros((size[1], size[0]), bool)
        whole[top : top + height, left : left + width] = self.mask
        return whole

    def columns(self, first: int, last: int, height: int) -> Bools:
        """Some columns of that mask (height, last - first), of a photograph of this height, without making the rest."""
        left, top, width, own_height = self.box
        some = np.zeros((height, last - first), bool)
        start, end = max(first, left), min(last, left + width)
        if start < end:
            some[top : top + own_height, start - first : end - first] = self.mask[:, start - left : end - left]
        return some

    def polygons(self, inner: bool = False) -> list[Polygon]:
        """Its outlines in the photograph, the largest part first; `inner` as for `polygons_of`."""
        corner = np.array(self.box[:2], np.float64)
        found = polygons_of(self.mask, inner=inner)
        return [Polygon(outer + corner, [hole + corner for hole in holes]) for outer, holes in found]


@dataclass(frozen=True)
class Described:
    """A photograph and what was found in it."""

    name: str
    """Below the folder that all photographs have in common, with slashes."""
    size: tuple[int, int]
    """Width and height, upright [pixels]."""
    objects: tuple[Found, ...]
    label: str
    """What an object is called."""
    model: str
    confidence: float
    key: str = ""
    """What the result was made of, by which a later run knows whether it is up to date."""
    root: str = ""
    """The name of the folder that all photographs have in common."""
    photograph: str = ""
    """The path of the photograph from the folder of its result, with slashes."""
    photo: Photo | None = None
    """Its pixels, where their colours are measured."""
    mm_per_pixel: float | None = None


def bounding_box(mask: Bools) -> Box | None:
    """The least box around a mask (H, W); None where it is empty."""
    columns, rows = (np.asarray(mask.any(axis)) for axis in (0, 1))
    if not rows.any():
        return None
    left, top = int(columns.argmax()), int(rows.argmax())
    right, bottom = len(columns) - int(columns[::-1].argmax()), len(rows) - int(rows[::-1].argmax())
    return left, top, right - left, bottom - top


def objects_of(mask: Bools, apart: bool = False) -> list[Found]:
    """The object of a mask (H, W); none if it is empty. With `apart` each connected part is one, the largest first.

    Pixels of one part touch at a side or a corner. A mask that is noise is one object.
    """
    box = bounding_box(mask)
    if box is None:
        return []
    left, top, width, height = box
    inner = mask[top : top + height, left : left + width]
    runs = Runs.of(inner, True) if apart else None
    if runs is None:
        return [Found(box, inner)]
    part = runs.parts(corners=True)
    order = np.argsort(part, kind="stable")
    each = np.split(order, np.flatnonzero(np.diff(part[order])) + 1)
    found = []
    for ones in each:
        first, last = int(runs.start[ones].min()), int(runs.end[ones].max())
        above, below = int(runs.row[ones].min()), int(runs.row[ones].max()) + 1
        own = np.zeros((below - above, last - first), bool)
        for row, start, end in zip(runs.row[ones], runs.start[ones], runs.end[ones], strict=True):
            own[row - above, start - first : end - first] = True
        found.append(Found((left + first, top + above, last - first, below - above), own))
    return sorted(found, key=lambda one: (-one.area, one.box))
