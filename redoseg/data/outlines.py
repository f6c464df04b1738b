"""Outlines of built-in objects: a random radius for each angle."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ANGLES = np.linspace(-math.pi, math.pi, 361)


def random_radius(rng: np.random.Generator) -> Floats:
    """The radius at each of ANGLES of an ellipse, polygon, star, superellipse or blob; its size has no meaning."""
    kind = rng.integers(5)
    a = ANGLES + rng.uniform(0, 2 * math.pi)
    if kind == 0:  # ellipse
        radius: Floats = 1 / np.hypot(np.cos(a), np.sin(a) * rng.uniform(1, 2))
    elif kind == 1:  # regular polygon
        step = 2 * math.pi / rng.integers(3, 7)
        radius = math.cos(step / 2) / np.cos(a % step - step / 2)
    elif kind == 2:  # star
        step = 2 * math.pi / rng.integers(4, 8)
        radius = 1 - rng.uniform(0.25, 0.5) * (1 - np.abs(2 * (a % step) / step - 1))
    elif kind == 3:  # superellipse
        power, squeeze = rng.uniform(2.5, 6), rng.uniform(1, 1.8)
        radius = (np.abs(np.cos(a)) ** power + np.abs(squeeze * np.sin(a)) ** power) ** (-1 / power)
    else:  # blob
        radius = np.ones_like(a)
        for k in range(2, 6):
            radius += rng.uniform(0, 0.5) / k * np.cos(k * a + rng.uniform(0, 2 * math.pi))
    return radius


def of_area(radius: Floats, area: float) -> Floats:
    """The same outline with this area, where the whole picture, from -1 to 1, has 4."""
    # area of an outline is half the integral of the squared radius
    return radius * math.sqrt(area / (0.5 * float(np.mean(radius[:-1] ** 2)) * 2 * math.pi))
