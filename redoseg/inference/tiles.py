"""A mask made of tiles: the network sees a large picture part by part, each at the scale of its training."""

from __future__ import annotations

import itertools
import math
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from redoseg.images.photo import Part, Photo, SoftMask, Window
from redoseg.inference.model_cost import BATCH

OVERLAP = 0.25  # of a tile's side, at least, with the next one; there both are blended
LEAST_SIDE = 16  # pixels
_IN_MEMORY = 2**26  # bytes of what the network gave; more are in a file without a name

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


def starts(length: int, side: int) -> list[int]:
    """Where tiles of a side begin along a picture's side of this length, evenly spaced [pixels]."""
    if length <= side:
        return [0]
    count = math.ceil((length - side) / (side * (1 - OVERLAP))) + 1
    return [round(i * (length - side) / (count - 1)) for i in range(count)]


def tiled_mask(
    photo: Photo,
    side: int,
    run: Callable[[Sequence[Photo]], tuple[Bytes, Floats]],
    upsampled: Callable[[Floats, Bytes, Photo], SoftMask],
    confidence: Callable[[Floats], float],
) -> tuple[SoftMask, float]:
    """The soft mask of a photograph from tiles of a `side` [pixels], made part by part, and the mean confidence.

    `run` gives what the network sees of photographs (N, S, S, 3), and their masks (N, S, S); `upsampled` brings such a
    mask to the size of its photograph. A picture narrower than a tile has tiles of its own width.
    """
    width, height = photo.size
    across, down = starts(width, side), starts(height, side)
    shape = min(side, width), min(side, height)
    boxes = [(left, top, left + shape[0], top + shape[1]) for top in down for left in across]
    windows = [Window.of(photo, box) for box in boxes]
    store, total = None, 0.0
    for first in range(0, len(windows), BATCH):
        some = windows[first : first + BATCH]
        seen, masks = run(some)
        if store is None:
            store = _room_for(len(windows), seen.shape[1])
        store[first : first + len(some), ..., :3] = seen
        store[first : first + len(some), ..., 3] = np.rint(masks * 255)
        total += sum(map(confidence, masks))
    assert store is not None
    tiles = _Tiles(windows, store, upsampled, keep=2 * len(across) + 2)

    def make(part: Part) -> Floats:
        left, top, right, bottom = part
        rows = [i for i, start in enumerate(down) if start < bottom and start + shape[1] > top]
        columns = [j for j, start in enumerate(across) if start < right and start + shape[0] > left]
        values = np.zeros((bottom - top, right - left), np.float32)
        weights = np.zeros_like(values)
        for i, j in itertools.product(rows, columns):
            x, y = across[j], down[i]
            here = max(left, x), max(top, y), min(right, x + shape[0]), min(bottom, y + shape[1])
            inner = here[0] - x, here[1] - y, here[2] - x, here[3] - y
            of_rows = _weights(inner[1], inner[3], shape[1], y > 0, y + shape[1] < height)
            weight = of_rows[:, None] * _weights(inner[0], inner[2], shape[0], x > 0, x + shape[0] < width)
            place = slice(here[1] - top, here[3] - top), slice(here[0] - left, here[2] - left)
            values[place] += weight * tiles[i * len(across) + j].made(inner)
            weights[place] += weight
        return values / weights

    return SoftMask(photo.size, make), total / len(windows)


def _room_for(count: int, size: int) -> Bytes:
    """Where colours and masks of tiles are kept (count, size, size, 4): in memory, or on disk if they are many."""
    shape = (count, size, size, 4)
    if math.prod(shape) <= _IN_MEMORY:
        return np.empty(shape, np.uint8)
    with tempfile.TemporaryFile() as file:  # it is there as long as it is mapped
        return np.memmap(file, np.uint8, "w+", shape=shape)


def _weights(first: int, last: int, side: int, before: bool, after: bool) -> Floats:
    """Weights of some rows or columns of a tile: rising from an edge at which there is a tile `before`, or `after`."""
    places = np.arange(first, last) + 0.5
    most = max(1.0, OVERLAP * side)
    weights = np.full(len(places), most)
    if before:
        weights = np.minimum(weights, places)
    if after:
        weights = np.minimum(weights, side - places)
    return np.asarray(weights / most, np.float32)


class _Tiles:
    """The tiles' soft masks at the photograph's size, of which the last used ones are kept."""

    def __init__(
        self,
        windows: Sequence[Photo],
        store: Bytes,
        upsampled: Callable[[Floats, Bytes, Photo], SoftMask],
        keep: int,
    ) -> None:
        self._windows, self._store, self._upsampled, self._keep = windows, store, upsampled, keep
        self._kept: OrderedDict[int, SoftMask] = OrderedDict()

    def __getitem__(self, number: int) -> SoftMask:
        if number in self._kept:
            self._kept.move_to_end(number)
            return self._kept[number]
        seen = np.array(self._store[number])
        mask = seen[..., 3].astype(np.float32) / np.float32(255)
        self._kept[number] = self._upsampled(mask, np.ascontiguousarray(seen[..., :3]), self._windows[number])
        if len(self._kept) > self._keep:
            self._kept.popitem(last=False)
        return self._kept[number]
