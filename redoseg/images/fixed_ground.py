"""A ground that all pictures share, and what is on it: a camera above a table, a tray or a slide.

Each picture is taken for the ground under a light of its own, with objects on it. Light and ground are found by turns:
the light of a picture by a robust fit to the ground, the ground as the median of the pictures under one light. A pixel
is of an object where it differs from the ground by many of the deviations that it usually has.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from redoseg.images.clean import Cleaning, clean

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

LEARNT_FROM = 200  # pictures, of a larger set evenly spaced ones
ROUNDS = 4  # turns of light and ground
FITS = 6  # weighted fits of a light
FAR = 2.5  # deviations from which a pixel is of an object
OF_NEIGHBOUR = 0.3  # of its furthest neighbour's distance: less is a pixel that shows more ground than object
CLEANING = Cleaning(smallest_part=0.1, largest_hole=0.03)
LEAST_SPREAD = 1.0  # grey levels of 255
_OBJECT = 4.0  # deviations from which a pixel does not count for the ground
_AT_ONCE = 64  # pictures


@dataclass(frozen=True)
class FixedGround:
    """The ground of a set of pictures of one size."""

    colours: Floats
    """(H, W, 3), of 255; of a typical picture's light."""
    spread: Floats
    """(H, W, 3): deviation of pictures from it where no object lies [grey levels of 255]."""
    explained: float
    """Share of the variance of all pixels that the ground and the lights explain where no object lies, 0 to 1."""
    noise: float = field(default=1.0)
    """Median distance of a typical picture's pixels from the ground [deviations]."""

    @classmethod
    def of(cls, pixels: NDArray[np.uint8]) -> FixedGround:
        """The ground of pictures (N, H, W, 3), of which at most LEARNT_FROM are looked at."""
        count = min(len(pixels), LEARNT_FROM)
        images = np.asarray(pixels[np.linspace(0, len(pixels) - 1, count).round().astype(int)], np.float32)
        levels = np.median(images, (1, 2), keepdims=True).clip(1)
        seen = images * (np.median(levels, 0) / levels)
        for _ in range(ROUNDS):
            ground = np.median(seen, 0)
            seen = np.concatenate([_under_one_light(part, ground) for part in _parts(images)])
        apart = seen - np.median(seen, 0)
        found = cls(np.median(seen, 0), _deviation(np.median(np.abs(apart), 0)), 0.0)
        away = _distance(apart, found.spread)
        apart[away > _OBJECT] = np.nan
        with np.errstate(all="ignore"):
            shift = np.nan_to_num(np.nanmedian(apart, 0))
            spread = np.nan_to_num(np.nanmedian(np.abs(apart - shift), 0), nan=255.0)
        rest = float(np.median(1.4826 * spread)) ** 2
        spread, colours = _deviation(spread), found.colours + shift
        noise = float(np.median(_distance(seen - colours, spread)))
        return cls(colours, spread, 1 - rest / max(float(images.var()), 1e-6), max(noise, 0.1))

    def distance(self, pixels: NDArray[np.uint8]) -> Floats:
        """How far each pixel of pictures (N, H, W, 3) is from the ground under their light, (N, H, W) [deviations].

        In a picture with more noise than usual, a deviation is larger.
        """
        found = []
        for part in _parts(pixels):
            seen = _under_one_light(part, self.colours)
            away = _distance(seen - self.colours, self.spread)
            usual = np.median(away, (1, 2), keepdims=True) / self.noise
            found.append(away / np.maximum(usual, 1))
        return np.concatenate(found)

    def objects(self, pixels: NDArray[np.uint8]) -> Bools:
        """What lies on the ground in pictures (N, H, W, 3), as masks (N, H, W)."""
        away = self.distance(pixels)
        found = (away > FAR) & (away > OF_NEIGHBOUR * _furthest_near(away))
        return np.stack([clean(mask, CLEANING) for mask in found])


def _parts(images: NDArray[np.uint8] | Floats) -> Iterator[Floats]:
    for start in range(0, len(images), _AT_ONCE):
        yield np.asarray(images[start : start + _AT_ONCE], np.float32)


def _deviation(median: Floats) -> Floats:
    """The standard deviation of normal numbers with this median distance from their middle."""
    return np.maximum(np.float32(1.4826) * median, np.float32(LEAST_SPREAD))


def _distance(apart: Floats, spread: Floats) -> Floats:
    """Root mean square over the colours (..., 3) of a difference in deviations."""
    distance: Floats = np.sqrt(np.square(apart / spread).mean(-1))
    return distance


def _furthest_near(away: Floats) -> Floats:
    """The largest of each 3 x 3 pixels around a pixel."""
    for axis in (1, 2):
        more = [(0, 0), (0, 0), (0, 0)]
        more[axis] = (1, 1)
        near = np.pad(away, more, mode="edge")
        size = away.shape[axis]
        away = np.maximum.reduce([near.take(range(k, k + size), axis) for k in range(3)])
    return away


def _under_one_light(images: Floats, ground: Floats) -> Floats:
    """The pictures (N, H, W, 3) as they would be in the light of the ground (H, W, 3), up to a small shift of it.

    A picture is the ground times a light, for each colour a polynomial of second order in x and y, and the ground's
    slopes, which a small shift adds. Weights of an iterated fit leave out what is far from that: objects.
    """
    count, height, width = images.shape[:3]
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    powers = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1).reshape(-1, 6).astype(np.float32)
    slopes = np.stack(list(np.gradient(ground, axis=(0, 1))), -1).reshape(-1, 3, 2)
    flat, base = images.reshape(count, -1, 3), ground.reshape(-1, 3).clip(1)
    terms = [np.concatenate([powers * base[:, c, None], slopes[:, c]], 1) for c in range(3)]
    pairs = [(t[:, :, None] * t[:, None]).reshape(len(t), -1) for t in terms]
    weights = np.zeros((count, 3, terms[0].shape[1]), np.float32)
    weights[:, :, 0] = np.median(flat / base, 1)
    for _ in range(FITS):
        rest = flat - _fitted(terms, weights)
        scale = 1.4826 * np.median(np.abs(rest), 1, keepdims=True).clip(0.5)
        trust = (1 + np.square(rest / scale).mean(-1) / 4) ** -2
        for c, (term, pair) in enumerate(zip(terms, pairs, strict=True)):
            sums = (trust @ pair).reshape(count, *2 * term.shape[1:])
            # a little of the first term's weight separates terms that the ground does not
            sums += 1e-6 * sums[:, :1, :1] * np.eye(term.shape[1], dtype=np.float32)
            weights[:, c] = np.linalg.solve(sums, ((trust * flat[..., c]) @ term)[..., None])[..., 0]
    rest = flat - _fitted(terms, weights)
    light = np.einsum("pk,nck->npc", powers, weights[..., :6]).clip(0.2)
    return (base + rest / light).reshape(images.shape)


def _fitted(terms: list[Floats], weights: Floats) -> Floats:
    """What the terms (P, K) of each colour give with the weights (N, 3, K) of each picture, (N, P, 3)."""
    return np.stack([weights[:, c] @ term.T for c, term in enumerate(terms)], -1)
