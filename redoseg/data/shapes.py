"""Built-in pictures: objects of random shape, size and place before a background. Nothing is stored.

Every picture is a scene in coordinates from -1 to 1, drawn from a random stream of its own, so the same
index shows the same scene at any size, and any slice of the endless list can be drawn by itself.

Five kinds, called levels. The first four have one object in a picture (with 3 regions two):

- ``shapes``: gently shaded colours of two families, warm for the object and cool for the background.
- ``shapes-hard``: object and background each have two or more colours and a texture; the object's are
  regular (stripes, checks, rings), the background's are not (cloudy noise at several scales, spots), and
  their colours overlap, so that no clustering of colours finds the object.
- ``leaves`` on gravel and ``beetles`` on bark (`data/specimens.py`), which no setting was chosen on.
- ``tray``: many objects on one table, which all pictures of a seed share (`data/trays.py`).

Training uses the indices from 0; the held-out pictures are the 512 from ``HELD_OUT_START``.
The levels are frozen: a test has their hashes, because scores on changed pictures do not compare.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from redoseg.data.outlines import ANGLES, of_area, random_radius
from redoseg.data.specimens import draw, rgb
from redoseg.data.trays import draw_tray, table_of
from redoseg.errors import DataError

LEVELS = ("shapes", "shapes-hard", "leaves", "beetles", "tray")
OF_SHAPES = LEVELS[:2]  # those that also come with two objects
HELD_OUT_START = 1_000_000
HELD_OUT_COUNT = 512
_TABLE = 1  # the stream of the table that all trays of a seed have

# float64 throughout: rounding to bytes then never depends on the last bit of a machine's sine.
Floats = NDArray[np.float64]

# Placing is decided on a grid of its own, so that it does not depend on the size asked for.
_PLACING_SIDE = 32


def generate(
    level: str, count: int, size: int, *, regions: int = 2, seed: int = 0, start: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw pictures ``start`` to ``start + count - 1`` of a level.

    Args:
        level: one of ``LEVELS``.
        count: how many pictures.
        size: side in pixels.
        regions: 2 for one object, 3 for two objects of different colour families.
        seed: which endless list of pictures.
        start: index of the first picture; ``HELD_OUT_START`` for the held-out part.

    Returns:
        Pictures, uint8 (count, size, size, 3), RGB, and labels, uint8 (count, size, size): 0 background,
        1 object, 2 second object.

    Raises:
        DataError: an unknown level, or a number out of range.
    """
    if level not in LEVELS:
        raise DataError(f"there are no built-in pictures called {level!r}; choose one of {', '.join(LEVELS)}")
    if regions == 3 and level not in OF_SHAPES:
        raise DataError(f"built-in pictures {level!r} have one object; set regions to 2, or choose shapes")
    if regions not in (2, 3):
        raise DataError(f"built-in pictures have 2 or 3 regions, but {regions} are requested; set regions to 2 or 3")
    if size < 4:
        raise DataError(
            f"built-in pictures have a size of at least 4 px, but {size} px are requested; set a larger size"
        )
    if min(count, seed, start) < 0:
        raise DataError(f"count {count}, seed {seed}, start {start}: none may be negative; use 0 or more")
    if level == "tray":
        images, numbers = trays(count, size, seed=seed, start=start)
        return images, (numbers > 0).astype(np.uint8)
    images = np.empty((count, size, size, 3), np.uint8)
    labels = np.empty((count, size, size), np.uint8)
    for i in range(count):
        images[i], labels[i] = _draw(_stream(level, regions, seed, start + i), level, size, regions)
    return images, labels


def trays(count: int, size: int, *, seed: int = 0, start: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Pictures ``start`` to ``start + count - 1`` of level ``tray``, with a number for each of their objects.

    The arguments are those of `generate`. The second array, uint8 (count, size, size), has 0 for the table and 1, 2,
    ... for the objects; so the largest number is how many there are.
    """
    table = table_of(_stream("tray", 2, seed, 0, _TABLE))
    images = np.empty((count, size, size, 3), np.uint8)
    numbers = np.empty((count, size, size), np.uint8)
    for i in range(count):
        rng = _stream("tray", 2, seed, start + i)
        image, large = draw_tray(rng, table, *_grid(2 * size))
        image = _halve(image) + rng.normal(0, rng.uniform(0.005, 0.015), (size, size, 3))
        images[i] = np.rint(np.clip(image, 0, 1) * 255)
        # of an object is what at least two of four quarters of a pixel show; they are never of two objects
        quarters = np.stack([large[k::2, j::2] for k in (0, 1) for j in (0, 1)])
        numbers[i] = np.where((quarters > 0).sum(0) >= 2, quarters.max(0), 0)
    return images, numbers


def _stream(level: str, *numbers: int) -> np.random.Generator:
    """The random stream of one picture."""
    return np.random.default_rng([LEVELS.index(level), *numbers])


def _draw(rng: np.random.Generator, level: str, size: int, regions: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """One picture (size, size, 3) and its labels (size, size)."""
    if level not in OF_SHAPES:
        image, inside = draw(rng, level, *_grid(2 * size))
        image = _halve(image) + rng.normal(0, 0.01, (size, size, 1))
        labels = _halve(inside[..., None].astype(np.float64))[..., 0] >= 0.5
        return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8), labels.astype(np.uint8)
    hard = level == "shapes-hard"
    outlines = _scene(rng, regions, hard)
    paint = _textured if hard else _shaded
    x, y = _grid(2 * size)
    image = paint(rng, 0, x, y)
    cover = np.zeros((regions, 2 * size, 2 * size))
    cover[0] = 1
    # The last object is the furthest away, so the first is never hidden.
    for k in range(regions - 1, 0, -1):
        inside = outlines[k - 1](x, y)
        # Painted in coordinates of the picture, not of the object: a texture's scale does not betray size.
        image = np.where(inside[..., None], paint(rng, k, x, y), image)
        cover[:, inside] = 0
        cover[k, inside] = 1
    image = _halve(image) + rng.normal(0, 0.01, (size, size, 1))
    labels = np.argmax(_halve(np.moveaxis(cover, 0, -1)), axis=-1)
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8), labels.astype(np.uint8)


@lru_cache(maxsize=8)
def _grid(side: int) -> tuple[Floats, Floats]:
    """x and y of the pixel centres, each (side, side), from -1 to 1."""
    line = (np.arange(side) + 0.5) / side * 2 - 1
    x, y = np.meshgrid(line, line)
    x.flags.writeable = y.flags.writeable = False
    return x, y


def _halve(a: Floats) -> Floats:
    """Mean of each 2 x 2 block of (2S, 2S, C): what softens the edges."""
    mean: Floats = (a[0::2, 0::2] + a[1::2, 0::2] + a[0::2, 1::2] + a[1::2, 1::2]) / 4
    return mean


# --- outlines ---------------------------------------------------------------------------------------------

Outline = Callable[[Floats, Floats], NDArray[np.bool_]]


def _scene(rng: np.random.Generator, regions: int, hard: bool) -> list[Outline]:
    """The objects' outlines, nearest first."""
    biggest = 0.22 if regions == 3 else 0.32 if hard else 0.45
    # Hard ones keep off the border more, so that methods that assume a free border are not beaten by that.
    reach = 0.87 if hard and regions == 2 else 1.0
    outlines = [_outline(rng, biggest, reach)]
    if regions == 3:
        x, y = _grid(_PLACING_SIDE)
        front = outlines[0](x, y)
        best, most = outlines[0], -1.0
        for _ in range(12):
            candidate = _outline(rng, biggest, reach)
            inside = candidate(x, y)
            seen = float((inside & ~front).sum()) / max(1, int(inside.sum()))
            if seen > most:
                best, most = candidate, seen
            if most > 0.7:
                break
        outlines.append(best)
    return outlines


def _outline(rng: np.random.Generator, biggest: float, reach: float) -> Outline:
    """A random outline: radius as a function of the angle, an area as a share of the picture, and a place."""
    radius = random_radius(rng)
    radius = of_area(radius, 4 * rng.uniform(0.08, biggest))
    x0, y0 = _place(rng, radius, reach)

    def inside(x: Floats, y: Floats) -> NDArray[np.bool_]:
        dx, dy = x - x0, y - y0
        limit = np.interp(np.arctan2(dy, dx), ANGLES, radius)
        within: NDArray[np.bool_] = dx * dx + dy * dy < limit * limit
        return within

    return inside


def _place(rng: np.random.Generator, radius: Floats, reach: float) -> tuple[float, float]:
    """A centre anywhere the outline fits within -reach to reach; one time in six, the border cuts it."""
    px, py = radius * np.cos(ANGLES), radius * np.sin(ANGLES)
    place = []
    for p in (px, py):
        low, high = -reach - float(p.min()), reach - float(p.max())
        # Larger than the picture in this direction: cut on both sides anyway.
        place.append(rng.uniform(min(low, high), max(low, high)))
    if rng.random() < 1 / 6:
        axis, sign = int(rng.integers(2)), 1 if rng.random() < 0.5 else -1
        extent = float((sign * (px, py)[axis]).max())
        place[axis] = sign * (1 - rng.uniform(0.3, 0.75) * extent)
    return place[0], place[1]


# --- colours and textures ---------------------------------------------------------------------------------


def _shaded(rng: np.random.Generator, region: int, x: Floats, y: Floats) -> Floats:
    """A colour of the region's family under a gentle linear light."""
    if region == 0:
        colour = rgb(rng.uniform(0.26, 0.62), rng.uniform(0.25, 0.85), rng.uniform(0.2, 0.75))
    elif region == 1:
        colour = rgb(rng.uniform(-0.06, 0.15), rng.uniform(0.45, 1.0), rng.uniform(0.6, 1.0))
    else:
        colour = rgb(rng.uniform(0.72, 0.88), rng.uniform(0.35, 0.9), rng.uniform(0.5, 1.0))
    angle, depth = rng.uniform(0, 2 * math.pi), rng.uniform(0.05, 0.25)
    light = 1 + depth * (x * math.cos(angle) + y * math.sin(angle))
    painted: Floats = light[..., None] * colour
    return painted


def _textured(rng: np.random.Generator, region: int, x: Floats, y: Floats) -> Floats:
    """Two or three colours of the region's families in the region's kind of texture, under a gentle light."""
    first, second = _palette(rng, region)
    share = _irregular(rng, x, y) if region == 0 else _regular(rng, x, y)
    painted = first + share[..., None] * (second - first)
    angle, depth = rng.uniform(0, 2 * math.pi), rng.uniform(0.05, 0.25)
    light = 1 + depth * (x * math.cos(angle) + y * math.sin(angle))
    if region == 0:
        # A third colour, in large soft patches.
        third = rgb(rng.uniform(0.05, 0.65), rng.uniform(0.2, 0.7), rng.uniform(0.2, 0.8))
        patch = np.clip(3 * _noise(rng, x, 3) - 0.8, 0, 1)[..., None]
        painted = painted + patch * (third - painted)
    result: Floats = light[..., None] * painted
    return result


def _palette(rng: np.random.Generator, region: int) -> tuple[Floats, Floats]:
    """Two colours, one light and one dark, whose families overlap between the regions."""
    if region == 0:
        light = rgb(rng.uniform(0.1, 0.6), rng.uniform(0.15, 0.7), rng.uniform(0.6, 0.95))
        dark = rgb(rng.uniform(0.2, 0.7), rng.uniform(0.3, 0.9), rng.uniform(0.1, 0.45))
    else:
        base = 0.0 if region == 1 else 0.8
        light = rgb(base + rng.uniform(-0.08, 0.17), rng.uniform(0.15, 0.9), rng.uniform(0.7, 1.0))
        dark = rgb(base + rng.uniform(-0.3, 0.3), rng.uniform(0.4, 1.0), rng.uniform(0.15, 0.5))
    return (light, dark) if rng.random() < 0.5 else (dark, light)


def _regular(rng: np.random.Generator, x: Floats, y: Floats) -> Floats:
    """Stripes, checks or rings: 0 to 1 with edges about a tenth of the period wide."""
    angle, period = rng.uniform(0, math.pi), rng.uniform(0.22, 0.45)
    phase, other = rng.uniform(0, 2 * math.pi, 2)
    u = 2 * math.pi / period * (x * math.cos(angle) + y * math.sin(angle)) + phase
    v = 2 * math.pi / period * (y * math.cos(angle) - x * math.sin(angle)) + other
    kind = rng.integers(3)
    if kind == 0:
        wave = np.sin(u)
    elif kind == 1:
        wave = np.sin(u) * np.sin(v) * 2
    else:
        cx, cy = rng.uniform(-1, 1, 2)
        wave = np.sin(2 * math.pi / period * np.hypot(x - cx, y - cy))
    share: Floats = np.clip(0.5 + 2 * wave, 0, 1)
    return share


def _irregular(rng: np.random.Generator, x: Floats, y: Floats) -> Floats:
    """Clouds at several scales, or spots: 0 to 1."""
    coarse = _noise(rng, x, int(rng.integers(4, 8)))
    fine = _noise(rng, x, int(rng.integers(10, 20)))
    if rng.random() < 0.6:
        weight = rng.uniform(0.3, 0.8)
        share = 0.5 + rng.uniform(1.5, 4) * (weight * (coarse - 0.5) + (1 - weight) * (fine - 0.5))
    else:
        share = 8 * (fine - rng.uniform(0.55, 0.65)) + 0.6 * (coarse - 0.5)
    clipped: Floats = np.clip(share, 0, 1)
    return clipped


def _noise(rng: np.random.Generator, x: Floats, cells: int) -> Floats:
    """Smooth random field, 0 to 1, from values at the corners of ``cells`` x ``cells`` squares."""
    weights = _interpolation(x.shape[0], cells)
    field: Floats = weights @ rng.random((cells + 1, cells + 1)) @ weights.T
    return field


@lru_cache(maxsize=128)
def _interpolation(side: int, cells: int) -> Floats:
    """(side, cells + 1): each pixel's weights on the two corners beside it."""
    position = (np.arange(side) + 0.5) / side * cells
    left = np.floor(position).astype(int)
    t = position - left
    t = t * t * (3 - 2 * t)
    weights = np.zeros((side, cells + 1))
    weights[np.arange(side), left] = 1 - t
    weights[np.arange(side), left + 1] = t
    return weights
