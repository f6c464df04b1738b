"""Two kinds of built-in pictures that nothing was chosen on: leaves on gravel, and beetles on bark.

They exist to check methods on a kind that no setting has seen: outlines with teeth, stems and legs, textures at several
scales, and colours that object and ground share. Their scenes are in coordinates from -1 to 1, like those of `shapes`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def rgb(hue: float, saturation: float, value: float) -> Floats:
    """Colour from hue (in turns, any number), saturation and value (0 to 1)."""
    k = (np.array([5.0, 3.0, 1.0]) + hue * 6) % 6
    colour: Floats = value - value * saturation * np.clip(np.minimum(k, 4 - k), 0, 1)
    return colour


def noise(rng: np.random.Generator, x: Floats, y: Floats, cells: float, stretch: float = 1.0) -> Floats:
    """Smooth random field, 0 to 1, with `cells` bumps from -1 to 1 along y, and 1 / stretch as many along x."""
    grid = rng.random((64, 64))
    u, v = (x + 2) / 2 * cells / stretch, (y + 2) / 2 * cells
    column, row = np.floor(u).astype(int), np.floor(v).astype(int)
    t, s = (p * p * (3 - 2 * p) for p in (u - column, v - row))
    corner = [[grid[(row + i) % 64, (column + j) % 64] for j in (0, 1)] for i in (0, 1)]
    field: Floats = (corner[0][0] * (1 - t) + corner[0][1] * t) * (1 - s) + (
        corner[1][0] * (1 - t) + corner[1][1] * t
    ) * s
    return field


def draw(rng: np.random.Generator, kind: str, x: Floats, y: Floats) -> tuple[Floats, Mask]:
    """One picture (s, s, 3), from 0 to 1, and where its object is (s, s); `kind` is leaves or beetles."""
    ground, (paint, inside) = (
        (_gravel(rng, x, y), _leaf(rng, x, y)) if kind == "leaves" else (_bark(rng, x, y), _beetle(rng, x, y))
    )
    # a shadow to one side, as objects on a ground have it
    angle, far = rng.uniform(0, 2 * math.pi), rng.uniform(0.0, 0.06)
    shift = [round(far * len(x) / 2 * f(angle)) for f in (math.sin, math.cos)]
    shadow = np.roll(inside, shift, (0, 1)) & ~inside
    ground = np.where(shadow[..., None], ground * rng.uniform(0.55, 0.8), ground)
    light = 1 + rng.uniform(0.05, 0.3) * (x * math.cos(angle) + y * math.sin(angle))
    return light[..., None] * np.where(inside[..., None], paint, ground), inside


def _turned(rng: np.random.Generator, x: Floats, y: Floats) -> tuple[Floats, Floats, float]:
    """Coordinates along and across an object near the middle, in halves of its length; and that half."""
    angle, half = rng.uniform(0, 2 * math.pi), rng.uniform(0.5, 0.85)
    x, y = x - rng.uniform(-0.25, 0.25), y - rng.uniform(-0.25, 0.25)
    return (x * math.cos(angle) + y * math.sin(angle)) / half, (y * math.cos(angle) - x * math.sin(angle)) / half, half


def _gravel(rng: np.random.Generator, x: Floats, y: Floats) -> Floats:
    """Stones of greys and browns, each with its light side; dark between them."""
    stones = rng.integers(40, 220)
    places = rng.uniform(-1.1, 1.1, (stones, 2))
    warm = rng.uniform(0.0, 0.2)
    colours = np.stack(
        [rgb(warm + rng.uniform(-0.06, 0.14), rng.uniform(0.05, 0.6), rng.uniform(0.25, 0.85)) for _ in places]
    )
    first, second, owner = np.full(x.shape, np.inf), np.full(x.shape, np.inf), np.zeros(x.shape, int)
    for number, (px, py) in enumerate(places):
        distance = np.square(x[:1] - px) + np.square(y[:, :1] - py)  # of a grid: one row, one column
        owner[distance < first] = number
        np.minimum(second, np.maximum(first, distance), out=second)
        np.minimum(first, distance, out=first)
    between = np.clip((np.sqrt(second) - np.sqrt(first)) * rng.uniform(6, 14), 0.25, 1)[..., None]
    grain = 0.85 + 0.3 * noise(rng, x, y, 30)[..., None]
    painted: Floats = colours[owner] * between * grain
    return painted


def _leaf(rng: np.random.Generator, x: Floats, y: Floats) -> tuple[Floats, Mask]:
    """A leaf with teeth, lobes, veins and a stem; green, yellow, red or brown."""
    along, across, _ = _turned(rng, x, y)
    across = across - rng.uniform(-0.25, 0.25) * (along * along - 0.4)
    lean, power = rng.uniform(-0.4, 0.4), rng.uniform(0.5, 1.1)
    profile = np.clip(1 - along * along, 0, 1) ** power * (1 + lean * along)
    teeth, depth, lobes = rng.integers(0, 16), rng.uniform(0.05, 0.2), rng.uniform(0, 0.35)
    profile = profile * (1 - depth * ((along * teeth) % 1)) * (1 + lobes * np.cos(along * math.pi * rng.integers(2, 5)))
    width = rng.uniform(0.3, 0.6)
    inside = np.abs(across) < width * profile
    stem = (along < -0.95) & (along > -rng.uniform(1.1, 1.4)) & (np.abs(across) < rng.uniform(0.02, 0.04))
    hue = rng.uniform(0.02, 0.36)
    paint = rgb(hue, rng.uniform(0.4, 0.95), rng.uniform(0.35, 0.9))
    other = rgb(hue + rng.uniform(-0.12, 0.12), rng.uniform(0.4, 0.95), rng.uniform(0.3, 0.9))
    share = np.clip(0.5 + rng.uniform(-0.5, 0.5) * along + 1.5 * (noise(rng, x, y, rng.uniform(4, 9)) - 0.5), 0, 1)
    leaf = paint + share[..., None] * (other - paint)
    side = np.abs((along - np.abs(across) * rng.uniform(0.5, 1.2)) * rng.uniform(4, 8) % 1 - 0.5) < 0.06
    veins = (np.abs(across) < 0.02) | (side & inside)
    leaf = leaf * np.where(veins, rng.uniform(0.7, 1.35), 1.0)[..., None]
    holes = noise(rng, x, y, rng.uniform(8, 14)) > 0.9  # eaten: ground shows through
    found: Mask = (inside & ~holes) | stem
    return leaf, found


def _bark(rng: np.random.Generator, x: Floats, y: Floats) -> Floats:
    """Long ridges with cracks in one direction, and patches of lichen."""
    angle = rng.uniform(0, math.pi)
    u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    ridges = noise(rng, u, v, rng.uniform(12, 24), rng.uniform(3, 7))
    fine = noise(rng, u, v, 40, 2.0)
    hue = rng.uniform(0.02, 0.13)
    dark, bright = (
        rgb(hue + rng.uniform(-0.03, 0.03), rng.uniform(0.1, 0.6), value)
        for value in (rng.uniform(0.1, 0.3), rng.uniform(0.4, 0.8))
    )
    share = np.clip(0.7 * ridges + 0.3 * fine, 0, 1)[..., None]
    painted = dark + share * (bright - dark)
    painted = painted * np.where(np.abs(ridges - 0.5) < 0.03, 0.5, 1.0)[..., None]
    lichen = np.clip(6 * (noise(rng, x, y, rng.uniform(3, 7)) - rng.uniform(0.6, 0.8)), 0, 1)[..., None]
    result: Floats = painted + lichen * (
        rgb(rng.uniform(0.1, 0.45), rng.uniform(0.1, 0.6), rng.uniform(0.5, 0.85)) * (0.8 + 0.4 * fine[..., None])
        - painted
    )
    return result


def _beetle(rng: np.random.Generator, x: Floats, y: Floats) -> tuple[Floats, Mask]:
    """Abdomen, thorax and head, six legs and two feelers; any colour, brown ones more often."""
    along, across, _ = _turned(rng, x, y)
    length, width = rng.uniform(0.5, 0.65), rng.uniform(0.26, 0.45)
    abdomen = ((along + 0.25) / length) ** 2 + (across / width) ** 2 < 1
    thorax = ((along - length + 0.22) / 0.2) ** 2 + (across / (width * rng.uniform(0.6, 0.85))) ** 2 < 1
    head = ((along - length - 0.02) / 0.13) ** 2 + (across / (width * 0.45)) ** 2 < 1
    limbs = np.zeros(x.shape, bool)
    thick = rng.uniform(0.022, 0.04)
    reach = rng.uniform(1.5, 2.0)
    for start, lean in ((0.3, 0.35), (0.05, -0.05), (-0.2, -0.4)):
        for side in (-1, 1):
            lean_here = lean + rng.uniform(-0.15, 0.15)
            knee = (start + lean_here * 0.6, side * width * reach * 0.75)
            limbs |= _near(along, across, (start, 0.0), knee, thick)
            limbs |= _near(along, across, knee, (start + lean_here * 1.7, side * width * reach), thick * 0.8)
    for side in (-1, 1):
        limbs |= _near(along, across, (length, 0.0), (length + 0.4, side * rng.uniform(0.15, 0.4)), thick * 0.7)
    hue = rng.uniform(0.0, 0.14) if rng.random() < 0.5 else rng.uniform(0, 1)
    shell = rgb(hue, rng.uniform(0.2, 0.95), rng.uniform(0.15, 0.75))
    spots = noise(rng, along, across, rng.uniform(3, 10)) > rng.uniform(0.6, 0.95)
    paint = np.where(
        spots[..., None], rgb(hue + rng.uniform(-0.2, 0.2), rng.uniform(0.2, 0.9), rng.uniform(0.1, 0.8)), shell
    )
    gloss = np.exp(-(((across - rng.uniform(-0.2, 0.2)) / 0.07) ** 2) - ((along + 0.2) / 0.35) ** 2)
    paint = paint + rng.uniform(0, 0.6) * gloss[..., None] * (1 - paint)
    seam = abdomen & ((np.abs(across) < 0.012) | (np.abs(along - length + 0.42) < 0.015))
    paint = np.where(seam[..., None], paint * 0.4, paint)
    front = rgb(hue + rng.uniform(-0.1, 0.1), rng.uniform(0.1, 0.8), rng.uniform(0.08, 0.5))
    paint = np.where((thorax | head)[..., None] & ~abdomen[..., None], front, paint)
    body = abdomen | thorax | head
    found: Mask = body | limbs
    return np.where((limbs & ~body)[..., None], front * 0.8, paint), found


def _near(x: Floats, y: Floats, start: tuple[float, float], end: tuple[float, float], most: float) -> Mask:
    """Where it is less than `most` from the line between two points."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    t = np.clip(((x - start[0]) * dx + (y - start[1]) * dy) / (dx * dx + dy * dy), 0, 1)
    near: Mask = np.hypot(x - start[0] - t * dx, y - start[1] - t * dy) < most
    return near
