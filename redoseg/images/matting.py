"""How opaque each pixel at an object's edge is, by closed-form matting (Levin et al., TPAMI 2008): hair, fur, petals.

The mask says what is surely the object and what is surely ground; between them, in a band along the edge, a pixel's
opacity is what its colours say. Needs pymatting, the part `matting` of redoseg; no pre-trained network.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redoseg.errors import MissingError
from redoseg.images.guided import bilinear_mask, guided_mask
from redoseg.images.photo import Part, Photo, SoftMask

MOST = 2**19  # pixels at which the opacity is solved for; of a larger photograph the result is enlarged, guided by it
BAND = 1 / 24  # of the object's size, the square root of its area: half the width of the band along the edge
_WINDOW = 2  # pixels at which the solution was found, half a side of the windows by which it is enlarged

Floats = NDArray[np.float32]


def closed_form() -> Callable[..., Any]:
    """pymatting's function. Raises MissingError."""
    try:
        from pymatting.alpha.estimate_alpha_cf import estimate_alpha_cf
    except ImportError:
        raise MissingError.of("matting needs pymatting, which", "matting") from None
    found: Callable[..., Any] = estimate_alpha_cf
    return found


def matte(photo: Photo, soft: SoftMask, threshold: float) -> SoftMask | None:
    """The opacity of the object at a photograph's own size, from its soft mask cut at `threshold`.

    None where nothing is surely the object, or nothing surely ground: then there is no edge to look at.
    Raises MissingError without pymatting.
    """
    solve = closed_form()
    scale = min(1.0, math.sqrt(MOST / photo.pixels))
    width, height = (max(1, round(side * scale)) for side in photo.size)
    whole = (width, height) == photo.size
    mask = (soft if whole else soft.shrunk((width, height))).whole() > threshold
    trimap = trimap_of(mask)
    if not (trimap == 1).any() or not (trimap == 0).any():
        return None
    small = photo.rgb if whole else photo.resized((width, height))
    opacity = np.asarray(solve(np.asarray(small, np.float64) / 255, trimap.astype(np.float64)), np.float32).clip(0, 1)
    if whole:
        return SoftMask.of(opacity)
    enlarged = guided_mask(opacity, np.asarray(small), photo, _WINDOW / min(width, height))
    sure = bilinear_mask(trimap, photo.size)

    def make(part: Part) -> Floats:
        known, values = sure.part(part), enlarged.part(part)
        return np.where((known == 0) | (known == 1), known, values)

    return SoftMask(photo.size, make)


def trimap_of(mask: NDArray[np.bool_]) -> Floats:
    """1 for surely the object, 0 for surely ground and 0.5 in the band between them, for a mask (H, W)."""
    radius = max(2, round(BAND * math.sqrt(np.count_nonzero(mask))))
    share = _share_about(mask, radius)
    return np.where(share == 1, np.float32(1), np.where(share > 0, np.float32(0.5), np.float32(0)))


def _share_about(mask: NDArray[np.bool_], radius: int) -> Floats:
    """The share of a square window about each pixel that is in the mask; beyond the border it continues."""
    sums = np.pad(np.pad(mask, radius, mode="edge"), ((1, 0), (1, 0))).astype(np.int32).cumsum(0).cumsum(1)
    side = 2 * radius + 1
    counts = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    return (counts / side**2).astype(np.float32)
