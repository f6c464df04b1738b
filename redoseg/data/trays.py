"""Built-in trays: 5 to 15 objects on one table, whose pictures differ in light, noise and a small shift of the camera.

The objects lie apart, so that the parts of a mask can be counted. Some have colours near the table's, and each has a
faint shadow. Scenes are in coordinates from -1 to 1, like those of `shapes`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from redoseg.data.outlines import ANGLES, of_area, random_radius
from redoseg.data.specimens import noise, rgb

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FEWEST, MOST = 5, 15  # objects
GAP = 0.09  # least distance of two objects; 3 pixels of a picture of 64
REACH = 0.95  # objects lie from -REACH to REACH
SHIFT = 0.03  # of the camera at most; a pixel of a picture of 64
_TRIES = 60  # places of an object, before all are made smaller

Table = Callable[[Floats, Floats], Floats]
"""From x and y to colours (s, s, 3)."""


def table_of(rng: np.random.Generator) -> tuple[Table, Floats]:
    """A table of boards with grain, scratches and stains, and its main colour (3,)."""
    hue, saturation, value = rng.uniform(0.0, 1.0), rng.uniform(0.1, 0.5), rng.uniform(0.45, 0.65)
    main, dark = rgb(hue, saturation, value), rgb(hue + rng.uniform(-0.05, 0.05), saturation * 1.2, value * 0.6)
    angle, boards, phase = rng.uniform(0, math.pi), rng.uniform(1.2, 2.5), rng.uniform(0, 1)
    cells, stretch = rng.uniform(14, 22), rng.uniform(2, 5)
    tones = rng.uniform(0.85, 1.1, 16)
    seeds = rng.integers(0, 2**32, 3)

    def table(x: Floats, y: Floats) -> Floats:
        u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
        grain, stains, fine = (np.random.default_rng(seed) for seed in seeds)
        share = np.clip(0.75 * noise(grain, u, v, cells, stretch) ** 2 + 0.5 * noise(stains, x, y, 3) - 0.15, 0, 1)
        board = (v + 2) * boards + phase
        seam = 0.55 + 0.45 * np.clip(np.abs(board - np.rint(board)) * 14 / boards, 0, 1)
        light = seam * tones[np.rint(board).astype(int) % 16] * (0.93 + 0.14 * noise(fine, x, y, 28))
        painted: Floats = (main + share[..., None] * (dark - main)) * light[..., None]
        return painted

    return table, main


def draw_tray(rng: np.random.Generator, table: tuple[Table, Floats], x: Floats, y: Floats) -> tuple[Floats, Ints]:
    """One tray (s, s, 3), from 0 to 1, and the number of the object in each pixel (s, s), 0 for the table."""
    paint_table, main = table
    dx, dy = rng.uniform(-SHIFT, SHIFT, 2)
    image, numbers = paint_table(x + dx, y + dy), np.zeros(x.shape, np.int64)
    angle, far, depth = rng.uniform(0, 2 * math.pi), rng.uniform(0.0, 0.03), rng.uniform(0.8, 0.95)
    from_light = far * math.cos(angle), far * math.sin(angle)
    things = _places(rng)
    for thing in things:
        here = _box(thing, x, far)
        inside = _inside(thing, x[here], y[here])
        shadow = _inside(thing, x[here] - from_light[0], y[here] - from_light[1]) & ~inside
        image[here] = np.where(shadow[..., None], image[here] * depth, image[here])
    for number, thing in enumerate(things, 1):
        here = _box(thing, x, 0.0)
        inside = _inside(thing, x[here], y[here])
        image[here] = np.where(inside[..., None], _paint(rng, thing, x[here], y[here], main), image[here])
        numbers[here][inside] = number
    turn, slope = rng.uniform(0, 2 * math.pi), rng.uniform(0.0, 0.25)
    gain = rng.uniform(0.75, 1.3) * rng.uniform(0.95, 1.05, 3)
    light = 1 + slope * (x * math.cos(turn) + y * math.sin(turn))
    return image * light[..., None] * gain, numbers


class _Thing(NamedTuple):
    """An object's centre and outline."""

    x: float
    y: float
    radius: Floats


def _places(rng: np.random.Generator) -> list[_Thing]:
    """The objects of a tray, which keep their distance from each other."""
    count = int(rng.integers(FEWEST, MOST + 1))
    typical = rng.uniform(0.13, min(0.24, 0.15 + 0.4 / count))
    shapes = [of_area(random_radius(rng), math.pi * rng.uniform(0.8, 1.25) ** 2) for _ in range(count)]
    while (found := _placed(rng, [shape * typical for shape in shapes])) is None:
        typical *= 0.95
    return found


def _placed(rng: np.random.Generator, shapes: list[Floats]) -> list[_Thing] | None:
    """The shapes at random places where they are apart; None where one finds no place."""
    found: list[_Thing] = []
    reaches: list[float] = []
    for radius in shapes:
        reach = float(radius.max())
        places = rng.uniform(reach - REACH, REACH - reach, (_TRIES, 2))
        free = np.ones(_TRIES, bool)
        for one, its_reach in zip(found, reaches, strict=True):
            free &= np.hypot(places[:, 0] - one.x, places[:, 1] - one.y) > reach + its_reach + GAP
        if not free.any():
            return None
        x, y = places[free.argmax()]
        found.append(_Thing(float(x), float(y), radius))
        reaches.append(reach)
    return found


def _box(thing: _Thing, x: Floats, more: float) -> tuple[slice, slice]:
    """Rows and columns that have all of the object and `more` around it, in a grid whose columns are at `x`."""
    reach, side = float(thing.radius.max()) + more, len(x)
    ends = [((centre - reach + 1) * side / 2, (centre + reach + 1) * side / 2) for centre in (thing.y, thing.x)]
    rows, columns = (slice(max(0, math.floor(low)), math.ceil(high)) for low, high in ends)
    return rows, columns


def _inside(thing: _Thing, x: Floats, y: Floats) -> NDArray[np.bool_]:
    x, y = x - thing.x, y - thing.y
    limit = np.interp(np.arctan2(y, x), ANGLES, thing.radius)
    within: NDArray[np.bool_] = x * x + y * y < limit * limit
    return within


def _paint(rng: np.random.Generator, thing: _Thing, x: Floats, y: Floats, main: Floats) -> Floats:
    """Two colours in patches, lighter on one side; every fifth object has colours near the table's."""
    first = rgb(rng.uniform(0, 1), rng.uniform(0.2, 0.95), rng.uniform(0.15, 0.95))
    second = rgb(rng.uniform(0, 1), rng.uniform(0.2, 0.95), rng.uniform(0.15, 0.95))
    if rng.random() < 0.2:
        first = main * rng.choice([0.65, 0.75, 1.25, 1.35]) + rng.uniform(-0.06, 0.06, 3)
        second = first * rng.uniform(0.9, 1.1)
    x, y, size = x - thing.x, y - thing.y, float(thing.radius.mean())
    share = np.clip(2.5 * noise(rng, x / size, y / size, rng.uniform(2, 4)) - 0.75, 0, 1)[..., None] * 0.6
    turn, depth = rng.uniform(0, 2 * math.pi), rng.uniform(0.05, 0.3)
    shade = 1 + depth * (x * math.cos(turn) + y * math.sin(turn)) / size
    painted: Floats = shade[..., None] * (first + share * (second - first))
    return painted
