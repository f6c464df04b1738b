"""How doubtful a mask is as a target of the second stage: how ragged, or how much changed by a cut. Without labels."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, UInt8
from numpy.typing import NDArray

from redoseg.config.schema import RefineConfig

LEAST_SHARE = RefineConfig.least_share


def raggedness(regions: UInt8[np.ndarray, "p h w"], count: int, least: float = LEAST_SHARE) -> Float[np.ndarray, " p"]:
    """Length of the edges between regions over the square root of the smallest region's area [no unit].

    A disc on plain ground has about 4.5; infinite where one of the `count` regions has less than `least` of the
    picture.
    """
    edges = (np.diff(regions, axis=1) != 0).sum((1, 2)) + (np.diff(regions, axis=2) != 0).sum((1, 2))
    smallest = smallest_region(regions, count)
    return np.where(smallest < least * regions[0].size, np.inf, edges / np.sqrt(np.maximum(smallest, 1)))


def disagreement(
    before: UInt8[np.ndarray, "p h w"], after: UInt8[np.ndarray, "p h w"], least: float = LEAST_SHARE
) -> Float[np.ndarray, " p"]:
    """1 minus the IoU of region 1 or of region 0, whichever is less, in two masks of a picture [share].

    Infinite where a region has less than `least` of the picture afterwards.
    """
    ious = []
    for region in (0, 1):
        then, now = before == region, after == region
        ious.append((then & now).sum((1, 2)) / np.maximum((then | now).sum((1, 2)), 1))
    return np.where(smallest_region(after, 2) < least * after[0].size, np.inf, 1 - np.minimum(*ious))


def smallest_region(regions: UInt8[np.ndarray, "p h w"], count: int) -> Int[np.ndarray, " p"]:
    """Area of the smallest of `count` regions of each picture [pixels]."""
    smallest: NDArray[np.int64] = np.stack([(regions == region).sum((1, 2)) for region in range(count)]).min(0)
    return smallest
