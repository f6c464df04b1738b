"""The outlines of masks as polygons, for labelling tools that read no masks.

An outline follows the edges of pixels, so pixel (x, y) is the square from (x, y) to (x + 1, y + 1). It is simplified
as far as the mask keeps an IoU of 99.6 %. Neither OpenCV nor scikit-image is needed, which the base install lacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from redoseg.images.photo import parts

LEAST_IOU = 0.996  # of a simplified outline with its mask
_SMALLEST = 0.001  # of the mask: outlines with less area are dropped where the IoU allows it
_COARSE = 3.0  # tolerance that is tried first [pixels]

Ring = NDArray[np.float64]
"""The corners (N, 2) of a closed outline, x and y [pixels]."""
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


class Polygon(NamedTuple):
    """A connected part of a mask."""

    outer: Ring
    holes: list[Ring]


def polygons_of(mask: Bools, inner: bool = False) -> list[Polygon]:
    """The outlines of a mask (H, W), the largest part first; none of an empty mask.

    Filled by the even-odd rule they give the mask with an IoU of at least LEAST_IOU. With `inner` they go through the
    middles of the object's pixels at its edge instead, for tools that fill outlines with the pixels on them.
    """
    if not mask.any():
        return []
    found = _grouped(_simpler(mask, [np.hstack([ring, _inner(ring)]) for ring in exact_rings(mask)], inner))
    chosen = slice(2, 4) if inner else slice(0, 2)
    return [Polygon(part.outer[:, chosen], [hole[:, chosen] for hole in part.holes]) for part in found]


def _simpler(mask: Bools, rings: list[Ring], inner: bool) -> list[Ring]:
    """Rings with fewer corners, of which the first two columns are x and y, the others those of the inner ring."""
    shape = mask.shape[0], mask.shape[1]
    area = int(np.count_nonzero(mask))
    tolerance = _COARSE
    large = [ring for ring in rings if abs(signed_area(ring)) >= _SMALLEST * area]
    while tolerance > 0.3:
        found = [_simplified(ring, tolerance) for ring in large]
        if _iou(mask, _painted(found, shape) if inner else filled(found, shape)) >= LEAST_IOU:
            return found
        tolerance *= 0.75
    return rings


def keyholed(polygon: Polygon) -> Ring:
    """One ring for a part with holes: each is joined to the outline by a bridge without width.

    By the even-odd rule it is filled like the part.
    """
    ring = polygon.outer
    for hole in sorted(polygon.holes, key=lambda hole: float(hole[:, 0].min())):
        ring = _bridged(ring, hole)
    return ring


def one_ring(polygons: Sequence[Polygon]) -> Ring:
    """One ring for all parts of a mask, joined by bridges without width."""
    ring, *others = map(keyholed, polygons)
    for other in others:
        ring = _bridged(ring, other)
    return ring


def filled(rings: Sequence[Ring], shape: tuple[int, int]) -> Bools:
    """The pixels (H, W) whose centres are in an odd number of rings."""
    height, width = shape
    toggles = np.zeros((height, width + 1), bool)
    for ring in rings:
        x, y = ring[:, 0], ring[:, 1]
        x2, y2 = np.roll(x, -1), np.roll(y, -1)
        # rows whose centres an edge crosses, the upper end included and the lower not
        low, high = np.where(y < y2, y, y2), np.where(y < y2, y2, y)
        first = np.ceil(low - 0.5).astype(np.int64).clip(0, height)
        last = np.ceil(high - 0.5).astype(np.int64).clip(0, height)
        edge = np.repeat(np.arange(len(x)), last - first)
        row = np.arange(len(edge)) - np.repeat((last - first).cumsum() - (last - first), last - first) + first[edge]
        along = (row + 0.5 - y[edge]) / (y2[edge] - y[edge])
        column = np.ceil(x[edge] + along * (x2[edge] - x[edge]) - 0.5).astype(np.int64).clip(0, width)
        np.logical_xor.at(toggles, (row, column), True)
    found: Bools = np.logical_xor.accumulate(toggles, axis=1)[:, :width]
    return found


def signed_area(ring: Ring) -> float:
    """Of a ring, positive where it goes from the x-axis to the y-axis [pixels]."""
    x, y = ring[:, 0], ring[:, 1]
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


# ------------------------------------------------------------------------------------------------ exact outlines


def exact_rings(mask: Bools) -> list[Ring]:
    """The corners of the outlines of a mask (H, W), exactly. Outer ones have a positive area, holes a negative one.

    Of two pixels that touch at a corner alone each keeps its own outline.
    """
    x, y, right, down = _corners(mask)
    if not len(x):
        return []
    beside = _pairs(y, x, right)
    across = _pairs(x, y, down)
    points = np.stack([x, y], -1).astype(np.float64)
    rings: list[Ring] = []
    left = [True] * len(x)
    next_beside, next_across = beside.tolist(), across.tolist()
    for start in range(len(x)):
        if not left[start]:  # of a ring that is done
            continue
        ring, at = [], start
        while True:
            ring.append(at)
            at = next_beside[at]
            ring.append(at)
            at = next_across[at]
            if at == start:
                break
        for at in ring:
            left[at] = False
        # corners come in the order of rows: the first is the highest of its ring, and there the leftmost
        rings.append(points[ring if mask[y[start], x[start]] else ring[::-1]])
    return rings


def _corners(mask: Bools) -> tuple[Ints, Ints, Bools, Bools]:
    """Where outlines turn: x and y, and whether the edges there go to the right and down. Rows come in order.

    A point at which two pixels touch at a corner alone is there twice.
    """
    height, width = mask.shape
    # of the four pixels about a corner the one that differs: above left, above right, below left, below right
    odd = {1: (0,), 14: (0,), 2: (1,), 13: (1,), 4: (2,), 11: (2,), 8: (3,), 7: (3,), 9: (0, 3), 6: (1, 2)}
    turns = np.zeros((16, 4), bool)
    for code, ones in odd.items():
        turns[code, list(ones)] = True
    turning: Bools = np.asarray(turns.any(1))
    found: list[NDArray[np.int64]] = []
    for _, top, _, bottom in parts((width + 1, height + 1), max(2**20, width + 1)):
        near = np.zeros((bottom - top + 1, width + 2), np.uint8)
        first, last = max(top - 1, 0), min(bottom, height)
        near[first - top + 1 : last - top + 1, 1:-1] = mask[first:last]
        code = near[:-1, :-1] + 2 * near[:-1, 1:] + 4 * near[1:, :-1] + 8 * near[1:, 1:]
        row, column = np.nonzero(turning[code])
        at, which = np.nonzero(turns[code[row, column]])
        found.append(np.stack([column[at], row[at] + top, which]))
    x, y, which = np.concatenate(found, axis=1)
    return x, y, which % 2 == 1, which >= 2


def _pairs(line: Ints, place: Ints, forwards: Bools) -> Ints:
    """For each corner the other end of its edge in a line: the corners of a line are ends of edges by turns."""
    order = np.lexsort((forwards, place, line))
    other = np.empty(len(order), np.int64)
    other[order[::2]], other[order[1::2]] = order[1::2], order[::2]
    return other


def _inner(ring: Ring) -> Ring:
    """The middles of the object's pixels at the corners of an exact outline: half a pixel off both of its edges."""
    along = np.sign(np.roll(ring, -1, 0) - ring)
    aside = np.stack([-along[:, 1], along[:, 0]], -1)  # the object is to the right of each edge
    return ring + 0.5 * (aside + np.roll(aside, 1, 0))


# ------------------------------------------------------------------------------------------------ simpler outlines


def _simplified(ring: Ring, tolerance: float) -> Ring:
    """The ring without corners that are within `tolerance` [pixels] of what is left (Douglas and Peucker)."""
    corners = ring[:, :2]
    far = int(((corners - corners[0]) ** 2).sum(1).argmax())
    closed = np.concatenate([corners, corners[:1]])
    keep = np.zeros(len(closed), bool)
    keep[[0, far]] = True
    waiting = [(0, far), (far, len(closed) - 1)]
    while waiting:
        first, last = waiting.pop()
        if last - first < 2:
            continue
        start, along = closed[first], closed[last] - closed[first]
        inner = closed[first + 1 : last] - start
        length = float(np.hypot(*along))
        if length:
            distance = np.abs(inner[:, 0] * along[1] - inner[:, 1] * along[0]) / length
        else:
            distance = np.hypot(inner[:, 0], inner[:, 1])
        worst = int(distance.argmax())
        if distance[worst] > tolerance:
            keep[first + 1 + worst] = True
            waiting += [(first, first + 1 + worst), (first + 1 + worst, last)]
    found = ring[keep[:-1]]
    return found if len(found) > 2 else ring


def _painted(rings: Sequence[Ring], shape: tuple[int, int]) -> Bools:
    """The pixels (H, W) within and on inner rings, as tools paint them; large ones first."""
    canvas = Image.new("L", (shape[1], shape[0]))
    draw = ImageDraw.Draw(canvas)
    for ring in sorted(rings, key=lambda ring: -abs(signed_area(ring))):
        corners = [(x - 0.5, y - 0.5) for x, y in ring[:, 2:].tolist()]
        draw.polygon(corners, fill=int(signed_area(ring) > 0), outline=1)
    return np.asarray(canvas) > 0


def _iou(mask: Bools, found: Bools) -> float:
    both, either = int(np.count_nonzero(found & mask)), int(np.count_nonzero(found | mask))
    return both / max(1, either)


def _grouped(rings: Sequence[Ring]) -> list[Polygon]:
    """Outlines with the holes that are in them, the largest first."""
    areas = [signed_area(ring) for ring in rings]
    order = sorted(range(len(rings)), key=lambda i: -abs(areas[i]))
    outer = [(Polygon(rings[i], []), areas[i]) for i in order if areas[i] > 0]
    for i in order:
        around = [one for one, area in outer if area > -areas[i] > 0 and _within(rings[i], one)]
        if around:
            around[-1].holes.append(rings[i])  # the smallest
    return [one for one, _ in outer]


def _within(hole: Ring, polygon: Polygon) -> bool:
    """Whether a hole is within an outline: most of its corners are."""
    x, y = polygon.outer[:, 0], polygon.outer[:, 1]
    x2, y2 = np.roll(x, -1), np.roll(y, -1)
    votes = 0
    for px, py in hole[:, :2]:
        crossed = (y > py) != (y2 > py)
        at = x[crossed] + (py - y[crossed]) / (y2[crossed] - y[crossed]) * (x2[crossed] - x[crossed])
        votes += 1 if np.count_nonzero(at > px) % 2 else -1
    return votes > 0


def _bridged(ring: Ring, other: Ring) -> Ring:
    """One ring of two, joined where corners of them are nearest to each other."""
    best, i, j = np.inf, 0, 0
    step = max(1, 2**20 // len(ring))
    for first in range(0, len(other), step):
        distance = ((other[first : first + step, None] - ring[None]) ** 2).sum(-1)
        at = int(distance.argmin())
        if distance.flat[at] < best:
            best, i, j = float(distance.flat[at]), at % len(ring), first + at // len(ring)
    return np.concatenate([ring[: i + 1], other[j:], other[: j + 1], ring[i:]])
