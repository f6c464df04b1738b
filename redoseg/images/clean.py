"""Crumbs and holes of a mask: parts that are too small to be the object, and gaps in it that are too small to be meant.

A mask is taken as runs of pixels in rows, of which there are few; runs that touch are joined until nothing changes. A
picture of 24 million pixels takes a fifth of a second, and no library is needed that labels pixels.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redoseg.errors import DataError

SMALLEST_PART = 0.1  # of the largest part; to keep that alone would cut a car in two behind a post
LARGEST_HOLE = 0.01  # of the object
_MOST_RUNS = 2**22  # a mask with more is noise, and stays unchanged
_AT_A_TIME = 2**20  # pixels

Bools = NDArray[np.bool_]
Ints = NDArray[np.signedinteger[Any]]


@dataclass(frozen=True)
class Cleaning:
    """What is cleaned from a mask. 0 leaves all parts, or all holes.

    Raises DataError for shares that are not numbers from 0 to 1.
    """

    smallest_part: float = SMALLEST_PART
    """A part with fewer pixels is dropped, as a share of the largest part's."""
    largest_hole: float = LARGEST_HOLE
    """A hole with fewer pixels is filled, as a share of the object's. What reaches the border is not a hole."""

    def __post_init__(self) -> None:
        for name, share in (("smallest part", self.smallest_part), ("largest hole", self.largest_hole)):
            if not 0 <= share <= 1:
                raise DataError(f"the share of the {name} is {share!r}, but must be from 0 to 1; choose another")


@dataclass(frozen=True)
class Runs:
    """Pixels of one value that lie side by side, in the order of rows."""

    row: Ints
    start: Ints
    end: Ints
    width: int

    @classmethod
    def of(cls, mask: Bools, value: bool) -> Runs | None:
        """The runs of a mask (H, W) that have this value; None if they are too many."""
        height, width = mask.shape
        kind = np.int32 if height * (width + 2) < 2**31 else np.int64  # for places in the mask, with a rim at its sides
        rows, starts, ends, count = [], [], [], 0
        step = max(1, _AT_A_TIME // max(1, width))
        for top in range(0, height, step):
            band = np.zeros((min(step, height - top), width + 2), bool)
            np.equal(mask[top : top + step], value, out=band[:, 1:-1])
            row, column = np.nonzero(band[:, 1:] != band[:, :-1])  # where runs start and end, by turns
            rows.append((row[::2] + top).astype(kind))
            starts.append(column[::2].astype(kind))
            ends.append(column[1::2].astype(kind))
            count += len(rows[-1])
            if count > _MOST_RUNS:
                return None
        return cls(np.concatenate(rows), np.concatenate(starts), np.concatenate(ends), width)

    @property
    def lengths(self) -> Ints:
        return self.end - self.start

    def at_border(self, height: int) -> Bools:
        """Which runs reach the border of the mask."""
        return (self.row == 0) | (self.row == height - 1) | (self.start == 0) | (self.end == self.width)

    def touching(self, corners: bool) -> tuple[Ints, Ints]:
        """Pairs of runs of neighbouring rows that touch; at their corners too if `corners`."""
        stride = self.width + 2  # so that no run is near one of another row
        below = (self.row + 1) * stride
        kind = self.row.dtype
        first = np.searchsorted(self.row * stride + self.end, below + self.start - corners, "right").astype(kind)
        count = np.searchsorted(self.row * stride + self.start, below + self.end + corners, "left").astype(kind)
        count = np.maximum(count - first, 0, dtype=kind)
        upper = np.repeat(np.arange(len(count), dtype=kind), count)
        lower = np.arange(len(upper), dtype=kind)
        lower += np.repeat(first + count - count.cumsum(dtype=kind), count)
        return upper, lower

    def parts(self, corners: bool) -> Ints:
        """For each run the first run of its connected part."""
        part = np.arange(len(self.row), dtype=self.row.dtype)
        a, b = self.touching(corners)
        while len(a):
            a, b = part[a], part[b]
            apart = a != b
            a, b = a[apart], b[apart]
            np.minimum.at(part, np.maximum(a, b), np.minimum(a, b))
            while not np.array_equal(part, part[part]):
                part = part[part]
        return part

    def paint(self, mask: Bools, chosen: Bools, value: bool) -> None:
        """Give the pixels of the chosen runs a value."""
        flat = mask.reshape(-1)
        assert np.shares_memory(flat, mask)
        places = np.flatnonzero(chosen)
        lengths = self.lengths[places]
        bounds = np.searchsorted(lengths.cumsum(), np.arange(0, lengths.sum() + _AT_A_TIME, _AT_A_TIME), "left")
        for first, last in itertools.pairwise(bounds):
            some, n = places[first : last + 1], lengths[first : last + 1]
            begins = self.row[some] * self.width + self.start[some] - (n.cumsum() - n)
            flat[np.repeat(begins, n) + np.arange(n.sum())] = value


def clean(mask: Bools, cleaning: Cleaning) -> Bools:
    """A mask (H, W) without crumbs, then without holes; the mask itself stays.

    Pixels of one part touch at a side or a corner, those of one hole at a side.
    """
    mask = np.array(mask, bool, order="C")
    clean_in_place(mask, cleaning)
    return mask


def clean_in_place(mask: Bools, cleaning: Cleaning) -> bool:
    """Do to a mask (H, W) in C's order what `clean` does; whether that changed it."""
    changed = False
    if cleaning.smallest_part > 0 and (runs := Runs.of(mask, True)) is not None and len(runs.row):
        part = runs.parts(corners=True)
        pixels = np.bincount(part, runs.lengths, len(part))
        crumbs = (pixels < cleaning.smallest_part * pixels.max())[part]
        runs.paint(mask, crumbs, False)
        changed = bool(crumbs.any())
    if cleaning.largest_hole > 0 and (runs := Runs.of(mask, False)) is not None and len(runs.row):
        part = runs.parts(corners=False)
        pixels = np.bincount(part, runs.lengths, len(part))
        pixels[part[runs.at_border(mask.shape[0])]] = np.inf
        holes = (pixels < cleaning.largest_hole * np.count_nonzero(mask))[part]
        runs.paint(mask, holes, True)
        changed |= bool(holes.any())
    return changed


def count_parts(mask: Bools) -> tuple[int, int]:
    """How many parts and how many holes a mask (H, W) has. Raises DataError for a mask that is noise."""
    objects, ground = Runs.of(mask, True), Runs.of(mask, False)
    if objects is None or ground is None:
        raise DataError("the mask is noise, whose parts are not counted")
    part = ground.parts(corners=False)
    holes = np.setdiff1d(part, part[ground.at_border(mask.shape[0])])
    return len(np.unique(objects.parts(corners=True))), len(holes)


def edge_length(mask: Bools) -> int:
    """How many pixels of a mask (H, W) lie beside one that is not of it, at a side."""
    near = np.pad(mask, 1, "edge")
    inner = near[:-2, 1:-1] & near[2:, 1:-1] & near[1:-1, :-2] & near[1:-1, 2:]
    return int(np.count_nonzero(mask & ~inner))
